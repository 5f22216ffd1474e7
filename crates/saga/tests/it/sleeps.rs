//! Sleeps: as long as they say, held by nobody, through whatever happens meanwhile.

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    By, Entry, RunnerPolicy, Saga, SagaBuilder, SagaId, Sagas, StartOptions, State, StepState,
    store::{MemoryStore, Store},
    testing::{Harness, Trouble},
};

use crate::{
    shaky::{Fate, Shaky},
    stand,
    world::{Act, Deed, Scripted, World},
};

const LONG: Duration = Duration::from_secs(7_200);

/// One, a sleep, two.
fn define(world: &World, sleep: Duration) -> SagaBuilder<u64> {
    let mut saga = Saga::define("sleepy", 1);
    let step = |name| Scripted {
        name,
        world: world.clone(),
    };
    saga.step("a", step("a"));
    saga.sleep("sleep", sleep);
    saga.step("b", step("b"));
    saga
}

fn sleepy(world: &World, sleep: Duration) -> Saga<u64> {
    define(world, sleep).build().unwrap()
}

async fn start(sagas: &Sagas, saga: &Saga<u64>) -> SagaId {
    let started = sagas.start(saga, &0, StartOptions::new()).await;
    started.unwrap().id()
}

/// A runner until then, which is dropped.
async fn live(sagas: &Sagas, saga: &Saga<u64>, life: Duration) {
    let runner = sagas.runner().saga(saga).build().unwrap();
    let _ = tokio::time::timeout(life, runner.run_until(std::future::pending())).await;
}

/// How long the sleep was, by the times of its lines, and how long it was to be.
async fn slept(sagas: &Sagas, saga: &Saga<u64>, id: SagaId) -> Option<(Duration, Duration)> {
    let lines = sagas.history(saga, id).await.unwrap().lines;
    let (fell, until) = lines.iter().find_map(|(at, entry)| match entry {
        Entry::Sleeping { until, .. } => Some((*at, *until)),
        _ => None,
    })?;
    let woke = lines.iter().find_map(|(at, entry)| match entry {
        Entry::Succeeded { step: 1, .. } => Some(*at),
        _ => None,
    })?;
    let asked = std::time::UNIX_EPOCH + Duration::from_micros(until.unsigned_abs());
    Some((
        woke.duration_since(fell).unwrap(),
        asked.duration_since(fell).unwrap_or_default(),
    ))
}

#[tokio::test(start_paused = true)]
async fn it_sleeps_for_hours_held_by_nobody_and_through_the_deaths_of_all_runners() {
    let tally = buttress_testkit::tally::suite("SG9");
    let world = World::default();
    let saga = sleepy(&world, 3 * LONG);
    let store = Arc::new(Shaky::new(Arc::new(MemoryStore::new()), |_| Fate::Well));
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, Duration::from_secs(5)).await;
    let record = store.read(id).await.unwrap().unwrap();
    assert!(!record.held && record.due_at > record.now, "{record:?}");
    let history = sagas.history(&saga, id).await.unwrap();
    assert_eq!(history.steps[1].state, StepState::Sleeping);
    assert_eq!(world.log(0), [Deed::Run("a")]);
    // Four hours without a runner, then one that comes and goes, then one that stays.
    tokio::time::sleep(2 * LONG).await;
    for _ in 0..5 {
        live(&sagas, &saga, Duration::from_secs(7)).await;
    }
    assert_eq!(sagas.get(id).await.unwrap().state, State::Running);
    live(&sagas, &saga, LONG + Duration::from_secs(2)).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    let (slept, asked) = slept(&sagas, &saga, id).await.unwrap();
    assert!(
        slept >= asked && slept < asked + Duration::from_secs(2),
        "{slept:?}"
    );
    assert_eq!(asked, 3 * LONG);
    assert_eq!(world.log(0), ["a", "b"].map(Deed::Run));
    let appends = store.appends.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(appends, 4, "three places, N + 1 commits");
    tally.kills(6);
}

#[tokio::test(start_paused = true)]
async fn a_short_sleep_keeps_the_claim_and_is_exact() {
    let world = World::default();
    let saga = sleepy(&world, Duration::from_millis(300));
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    let runner = sagas.runner().saga(&saga).build().unwrap();
    assert_eq!(runner.run_once().await.unwrap(), 1);
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    let (slept, asked) = slept(&sagas, &saga, id).await.unwrap();
    assert_eq!(asked, Duration::from_millis(300));
    assert!(
        slept >= asked && slept < asked + Duration::from_millis(5),
        "{slept:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_stops_gives_a_sleeper_back_until_it_wakes() {
    let world = World::default();
    let saga = sleepy(&world, Duration::from_millis(400));
    let store = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let id = start(&sagas, &saga).await;
    let runner = sagas.runner().saga(&saga).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_millis(100)))
        .await;
    let record = store.read(id).await.unwrap().unwrap();
    assert!(!record.held && record.due_at > record.now, "{record:?}");
    live(&sagas, &saga, Duration::from_secs(3)).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    let (slept, asked) = slept(&sagas, &saga, id).await.unwrap();
    assert!(slept >= asked, "{slept:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sleep_is_not_undone_and_a_sleeper_that_is_cancelled_wakes() {
    let world = World::default();
    let saga = sleepy(&world, LONG);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, Duration::from_secs(5)).await;
    let by = By::new("test", "no more");
    sagas.cancel(&saga, id, by).await.unwrap();
    live(&sagas, &saga, Duration::from_secs(5)).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Undone);
    // One that has slept is turned back behind its sleep.
    world.script(0, "b", &[Act::Refused]);
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, 2 * LONG).await;
    let history = sagas.history(&saga, id).await.unwrap();
    assert_eq!(history.saga.state, State::Undone);
    let undone = history.lines.iter().filter_map(|(_, entry)| match entry {
        Entry::UndoStarted { step, .. } => Some(*step),
        _ => None,
    });
    assert_eq!(undone.collect::<Vec<_>>(), [0], "{history:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sleep_before_the_pivot_ends_at_the_deadline_of_the_way_forward() {
    let world = World::default();
    let mut saga = define(&world, LONG);
    saga.forward_within(Duration::from_secs(3600));
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, Duration::from_secs(3590)).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Running);
    live(&sagas, &saga, Duration::from_secs(20)).await;
    let ended = sagas.get(id).await.unwrap();
    assert_eq!(ended.state, State::Undone);
    assert_eq!(ended.reason.as_deref(), Some("DEADLINE"));
}

#[tokio::test(start_paused = true)]
async fn a_sleep_is_as_long_as_the_input_says_and_one_that_cannot_tell_is_parked() {
    let mut saga = Saga::define("by-input", 1);
    saga.sleep_by("sleep", |seconds: &u64| {
        assert!(*seconds < 1000, "planted");
        Duration::from_secs(*seconds)
    });
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let none = sagas.start(&saga, &0, StartOptions::new()).await.unwrap();
    let long = sagas.start(&saga, &100, StartOptions::new()).await.unwrap();
    let wrong = sagas
        .start(&saga, &1000, StartOptions::new())
        .await
        .unwrap();
    live(&sagas, &saga, Duration::from_secs(50)).await;
    assert_eq!(sagas.get(none.id()).await.unwrap().state, State::Completed);
    assert_eq!(sagas.get(long.id()).await.unwrap().state, State::Running);
    let parked = sagas.get(wrong.id()).await.unwrap();
    assert_eq!(parked.state, State::NeedsAttention);
    assert_eq!(parked.reason.as_deref(), Some("SLEEP"));
    live(&sagas, &saga, Duration::from_secs(60)).await;
    assert_eq!(sagas.get(long.id()).await.unwrap().state, State::Completed);
}

#[test]
fn a_saga_that_sleeps_stands_every_trouble() {
    let tally = buttress_testkit::tally::suite("SG9");
    let runs = Harness::new(|| (sleepy(&World::default(), LONG), 0)).run(|outcome, _| {
        let refused = match &outcome.trouble {
            Trouble::None | Trouble::Crash { .. } | Trouble::RepeatStep(_) => false,
            Trouble::FailStep(_, kind) => *kind != buttress_saga::FailureKind::NotDone,
            _ => true,
        };
        let expected = if refused {
            State::Undone
        } else {
            State::Completed
        };
        assert_eq!(outcome.state, expected, "{outcome:?}");
    });
    let runs = runs.unwrap();
    assert!(runs > 30);
    tally.faults(runs);
}

/// The same by the clock of each database, with a runner that dies in the sleep.
async fn sleeps_on(store: Arc<dyn Store>) {
    let world = World::default();
    let saga = sleepy(&world, Duration::from_millis(900));
    let sagas = Sagas::shared(store);
    let id = start(&sagas, &saga).await;
    let policy = RunnerPolicy::default()
        .hold(Duration::ZERO)
        .poll(Duration::from_millis(20));
    let runner = || {
        let runner = sagas.runner().saga(&saga).policy(policy.clone());
        runner.build().unwrap()
    };
    // It dies as soon as the saga sleeps.
    let asleep = async {
        while sagas.history(&saga, id).await.unwrap().steps[1].state != StepState::Sleeping {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = asleep => {}
        () = runner().run_until(std::future::pending()) => {}
    }
    let ended = async {
        while sagas.get(id).await.unwrap().state.is_active() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    runner().run_until(ended).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    let (slept, asked) = slept(&sagas, &saga, id).await.unwrap();
    assert!(slept >= asked, "{slept:?} of {asked:?}");
    assert!(asked > Duration::ZERO, "{asked:?}");
    assert_eq!(world.log(0), ["a", "b"].map(Deed::Run));
}

#[tokio::test]
async fn it_sleeps_by_the_clock_of_every_store() {
    if let Some(stand) = stand::postgres().await.unwrap() {
        sleeps_on(Arc::clone(&stand.store)).await;
        stand.close().await.unwrap();
    }
    if let Some(stand) = stand::mysql().await.unwrap() {
        sleeps_on(Arc::clone(&stand.store)).await;
        stand.close().await.unwrap();
    }
    sleeps_on(stand::sqlite().await.unwrap().store).await;
    sleeps_on(Arc::new(MemoryStore::new())).await;
}
