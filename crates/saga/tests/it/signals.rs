//! Signals: none is lost, none counts twice, and of a signal and its timeout one happens.

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    By, Context, Entry, Output, RunnerPolicy, Saga, SagaBuilder, SagaError, SagaId, Sagas,
    StartOptions, State, Step, StepError, StepState, Waited,
    store::{MemoryStore, Store},
    testing::{Harness, Trouble},
};
use buttress_testkit::{seed::Seed, short_or_long};
use rand::RngExt as _;

use crate::{
    shaky::{Fate, Shaky},
    world::{Act, Deed, Scripted, World},
};

pub(crate) const WITHIN: Duration = Duration::from_secs(3600);

fn step(world: &World, name: &'static str) -> Scripted {
    Scripted {
        name,
        world: world.clone(),
    }
}

/// Returns what the wait before it came to.
struct Tell(Output<Waited<u64>>);

impl Step for Tell {
    type Input = u64;
    type Output = Option<u64>;

    async fn run(&self, context: &Context<'_, u64>) -> Result<Option<u64>, StepError> {
        Ok(context.output(self.0)?.came())
    }
}

/// One, a wait, and what came of it.
pub(crate) fn patient(world: &World, within: Duration) -> Saga<u64> {
    patient_of(world, within, 1)
}

pub(crate) fn patient_of(world: &World, within: Duration, version: u32) -> Saga<u64> {
    let mut saga = Saga::define("patient", version);
    saga.step("a", step(world, "a"));
    let paid = saga.wait("paid", within);
    saga.step("told", Tell(paid));
    saga.build().unwrap()
}

/// One, a wait without which it does not go on, two.
fn strict(world: &World) -> SagaBuilder<u64> {
    let mut saga = Saga::define("strict", 1);
    saga.step("a", step(world, "a"));
    let _: Output<u64> = saga.wait_or_turn_back("paid", WITHIN);
    saga.step("b", step(world, "b"));
    saga
}

pub(crate) async fn start(sagas: &Sagas, saga: &Saga<u64>) -> SagaId {
    let started = sagas.start(saga, &0, StartOptions::new()).await;
    started.unwrap().id()
}

/// A runner until then, which is dropped.
async fn live(sagas: &Sagas, saga: &Saga<u64>, life: Duration) {
    let runner = sagas.runner().saga(saga).build().unwrap();
    let _ = tokio::time::timeout(life, runner.run_until(std::future::pending())).await;
}

/// What the step behind the wait returned.
pub(crate) async fn told(sagas: &Sagas, saga: &Saga<u64>, id: SagaId) -> Option<String> {
    let lines = sagas.history(saga, id).await.unwrap().lines;
    lines.into_iter().find_map(|(_, entry)| match entry {
        Entry::Succeeded { step: 2, output } => Some(output),
        _ => None,
    })
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_signal_that_is_there_before_the_saga_waits_is_not_lost() {
    let world = World::default();
    let saga = patient(&world, WITHIN);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    assert!(sagas.signal(id, "paid", "m1", &7_u64).await.unwrap());
    live(&sagas, &saga, SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    assert_eq!(told(&sagas, &saga, id).await.as_deref(), Some("7"));
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_came_while_another_was_waited_for_is_not_lost() {
    let world = World::default();
    let mut saga = Saga::define("twice", 1);
    let _: Output<u64> = saga.wait_or_turn_back("paid", WITHIN);
    let _: Output<u64> = saga.wait_or_turn_back("agreed", WITHIN);
    saga.step("a", step(&world, "a"));
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, SOON).await;
    for name in ["agreed", "paid"] {
        assert!(sagas.signal(id, name, name, &7_u64).await.unwrap());
        live(&sagas, &saga, SOON).await;
    }
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_saga_is_held_by_nobody_and_woken_by_its_signal_before_any_poll() {
    let world = World::default();
    let saga = patient(&world, 4 * WITHIN);
    let store = Arc::new(Shaky::new(Arc::new(MemoryStore::new()), |_| Fate::Well));
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let id = start(&sagas, &saga).await;
    let policy = RunnerPolicy::default().poll(Duration::from_secs(60));
    let runner = sagas.runner().saga(&saga).policy(policy).build().unwrap();
    let test = async {
        tokio::time::sleep(WITHIN).await;
        let record = store.read(id).await.unwrap().unwrap();
        assert!(!record.held && record.due_at > record.now, "{record:?}");
        let history = sagas.history(&saga, id).await.unwrap();
        assert_eq!(history.steps[1].state, StepState::Waiting);
        tokio::time::sleep(Duration::from_millis(1700)).await;
        // One of another name, which nobody waits for, spoils nothing.
        assert!(sagas.signal(id, "lost", "m0", &1_u64).await.unwrap());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!store.read(id).await.unwrap().unwrap().held);
        assert!(sagas.signal(id, "paid", "m1", &7_u64).await.unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    };
    runner.run_until(test).await;
    assert_eq!(told(&sagas, &saga, id).await.as_deref(), Some("7"));
    assert_eq!(world.log(0), [Deed::Run("a")]);
    let appends = store.appends.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        appends, 5,
        "three places, N + 1 commits, and a look in vain"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_nothing_comes_to_goes_on_without() {
    let world = World::default();
    let saga = patient(&world, WITHIN);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, WITHIN - SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Running);
    live(&sagas, &saga, 2 * SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    assert_eq!(told(&sagas, &saga, id).await.as_deref(), Some("null"));
    let late = sagas.signal(id, "paid", "m1", &7_u64).await;
    let state = State::Completed;
    assert!(matches!(late, Err(SagaError::WrongState { state: it }) if it == state));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_must_be_answered_turns_back_and_behind_the_pivot_needs_attention() {
    let world = World::default();
    let saga = strict(&world).build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, WITHIN + SOON).await;
    let history = sagas.history(&saga, id).await.unwrap();
    assert_eq!(history.saga.state, State::Undone);
    assert_eq!(history.saga.reason.as_deref(), Some("NO_SIGNAL"));
    assert_eq!(history.steps[1].state, StepState::Failed);
    assert_eq!(world.log(0).len(), 2, "a, and its undo: {:?}", world.log(0));

    let mut saga = Saga::define("behind", 1);
    saga.step("a", step(&world, "a"));
    saga.pivot();
    let _: Output<u64> = saga.wait_or_turn_back("paid", WITHIN);
    let saga = saga.build().unwrap();
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, WITHIN + SOON).await;
    let parked = sagas.get(id).await.unwrap();
    assert_eq!(parked.state, State::NeedsAttention);
    assert_eq!(parked.reason.as_deref(), Some("NO_SIGNAL"));
    // It comes too late for the first wait, and in time for the one that is begun anew.
    assert!(sagas.signal(id, "paid", "m1", &7_u64).await.unwrap());
    live(&sagas, &saga, SOON).await;
    assert_eq!(
        sagas.get(id).await.unwrap().state,
        State::NeedsAttention,
        "a signal resumes nothing"
    );
    let by = By::new("test", "it has come");
    sagas.resume(&saga, id, by).await.unwrap();
    live(&sagas, &saga, SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_after_the_time_is_over_does_not_count_whenever_a_runner_comes() {
    for (after, expected) in [
        (WITHIN - 2 * SOON, "7"),
        (WITHIN + 2 * SOON, "null"),
        (3 * WITHIN, "null"),
    ] {
        let world = World::default();
        let saga = patient(&world, WITHIN);
        let sagas = Sagas::new(MemoryStore::new());
        let id = start(&sagas, &saga).await;
        live(&sagas, &saga, SOON).await;
        // No runner is there when the time is over.
        tokio::time::sleep(after).await;
        assert!(sagas.signal(id, "paid", "m1", &7_u64).await.unwrap());
        tokio::time::sleep(WITHIN).await;
        live(&sagas, &saga, SOON).await;
        assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
        let told = told(&sagas, &saga, id).await;
        assert_eq!(told.as_deref(), Some(expected), "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sent_twice_is_once_and_the_first_of_several_is_taken() {
    let world = World::default();
    let saga = patient(&world, WITHIN);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    assert!(sagas.signal(id, "paid", "m1", &7_u64).await.unwrap());
    assert!(!sagas.signal(id, "paid", "m1", &8_u64).await.unwrap());
    assert!(sagas.signal(id, "paid", "m2", &9_u64).await.unwrap());
    live(&sagas, &saga, SOON).await;
    assert_eq!(told(&sagas, &saga, id).await.as_deref(), Some("7"));
    let again = sagas.signal(id, "paid", "m1", &7_u64).await;
    assert!(!again.unwrap(), "also when it has ended");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_signal_is_refused_and_a_payload_of_another_type_is_seen() {
    let world = World::default();
    let saga = strict(&world).build().unwrap();
    let sagas = Sagas::new(MemoryStore::new()).with_longest_signal(100);
    let id = start(&sagas, &saga).await;
    let long = "x".repeat(100);
    let long = sagas.signal(id, "paid", "m1", &long).await;
    assert!(matches!(
        long,
        Err(SagaError::TooLong {
            length: 102,
            longest: 100
        })
    ));
    let unkeyed = sagas.signal(id, "paid", "", &1).await;
    assert!(matches!(unkeyed, Err(SagaError::Key(_))));
    let unnamed = sagas.signal(id, "no name", "m1", &1).await;
    assert!(matches!(unnamed, Err(SagaError::NoSuchStep)));
    let nobody = sagas.signal(SagaId::random(), "paid", "m1", &1).await;
    assert!(matches!(nobody, Err(SagaError::NotFound)));
    for number in 0..1000_u64 {
        let sent = sagas.signal(id, "lost", number.to_be_bytes(), &1).await;
        assert!(sent.unwrap());
    }
    let full = sagas.signal(id, "paid", "m1", &1).await;
    assert!(matches!(
        full,
        Err(SagaError::TooManySignals { most: 1000 })
    ));

    let id = start(&sagas, &saga).await;
    sagas.signal(id, "paid", "m1", &"seven").await.unwrap();
    live(&sagas, &saga, SOON).await;
    let parked = sagas.get(id).await.unwrap();
    assert_eq!(parked.state, State::NeedsAttention);
    assert_eq!(parked.reason.as_deref(), Some("SIGNAL"));
    let by = By::new("test", "they meant seven");
    sagas.force(&saga, id, "paid", &7_u64, by).await.unwrap();
    live(&sagas, &saga, SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_waits_is_cancelled_and_its_wait_is_not_undone() {
    let world = World::default();
    let saga = strict(&world).build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, SOON).await;
    sagas
        .cancel(&saga, id, By::new("test", "no more"))
        .await
        .unwrap();
    let state = State::Undoing;
    let late = sagas.signal(id, "paid", "m1", &7_u64).await;
    assert!(matches!(late, Err(SagaError::WrongState { state: it }) if it == state));
    live(&sagas, &saga, SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Undone);
    // One that has heard its signal is turned back behind it.
    world.script(0, "b", &[Act::Refused]);
    let id = start(&sagas, &saga).await;
    sagas.signal(id, "paid", "m1", &7_u64).await.unwrap();
    live(&sagas, &saga, SOON).await;
    let history = sagas.history(&saga, id).await.unwrap();
    assert_eq!(history.saga.state, State::Undone);
    let undone = history.lines.iter().filter_map(|(_, entry)| match entry {
        Entry::UndoStarted { step, .. } => Some(*step),
        _ => None,
    });
    assert_eq!(undone.collect::<Vec<_>>(), [0], "{history:?}");
}

/// A signal about when the time is over, on a store that suffers, with runners that die: one of the
/// two happens, once, and whoever comes later goes the same way.
#[tokio::test(start_paused = true)]
async fn of_a_signal_and_its_timeout_exactly_one_happens_whoever_dies() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let (mut came, mut missed) = (0, 0);
    for _ in 0..short_or_long(400, 20_000) {
        let world = World::default();
        let within = Duration::from_millis(rng.random_range(1..1500));
        let saga = patient(&world, within);
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (number, bad) = (rng.random::<u64>(), rng.random_range(0..30_u64));
        let shaky = || {
            let fate = move |operation: u64| match (number ^ operation.wrapping_mul(0x9e37)) % 5 {
                _ if operation > bad => Fate::Well,
                0 => Fate::AnswerLost,
                1 => Fate::Fails,
                2 => Fate::LateAfter(Duration::from_millis(number % 700)),
                _ => Fate::Well,
            };
            Sagas::shared(Arc::new(Shaky::new(Arc::clone(&memory), fate)))
        };
        let sagas = Sagas::shared(Arc::clone(&memory));
        let id = start(&sagas, &saga).await;
        let about = Duration::from_millis(rng.random_range(0..3000));
        let signals = async {
            tokio::time::sleep(about).await;
            // It may be over by then.
            let first = sagas.signal(id, "paid", "m1", &7_u64).await.is_ok();
            let _ = sagas.signal(id, "paid", "m1", &8_u64).await;
            first
        };
        let lives: Vec<_> = (0..6).map(|_| rng.random_range(0..600)).collect();
        let (one, other) = (shaky(), shaky());
        let die = async {
            for life in &lives {
                live(&one, &saga, Duration::from_millis(*life)).await;
            }
        };
        let _ = tokio::join!(signals, die, live(&other, &saga, Duration::from_secs(40)),);
        live(&sagas, &saga, Duration::from_secs(40)).await;
        let history = sagas.history(&saga, id).await.unwrap();
        assert_eq!(history.saga.state, State::Completed, "{history:#?}");
        let ends = history.lines.iter().filter_map(|(_, entry)| match entry {
            Entry::Succeeded { step: 1, output } => Some(output.as_str()),
            _ => None,
        });
        let ends: Vec<_> = ends.collect();
        let until = history.lines.iter().find_map(|(_, entry)| match entry {
            Entry::Waiting { until, .. } => Some(*until),
            _ => None,
        });
        let sent = memory.signals(id, "paid").await.unwrap().first;
        let in_time = sent.is_some_and(|it| it.at.get() < until.unwrap());
        let told = told(&sagas, &saga, id).await.unwrap();
        match ends[..] {
            ["{\"came\":7}"] => {
                assert!(in_time, "it was late: {history:#?}");
                assert_eq!(told, "7");
                came += 1;
            }
            ["\"timed_out\""] => {
                assert!(!in_time, "it was in time: {history:#?}");
                assert_eq!(told, "null");
                missed += 1;
            }
            _ => panic!("{ends:?}: {history:#?}"),
        }
    }
    println!("{came} came, {missed} did not");
    assert!(came > 20 && missed > 20, "{came} came, {missed} did not");
}

#[test]
fn a_saga_that_waits_stands_every_trouble_with_and_without_its_signal() {
    for signalled in [true, false] {
        let make = || (strict(&World::default()).build().unwrap(), 0);
        let mut harness = Harness::new(make);
        if signalled {
            harness = harness.signal("paid", &7_u64);
        }
        let runs = harness.run(|outcome, _| {
            let refused = match &outcome.trouble {
                Trouble::None | Trouble::Crash { .. } | Trouble::RepeatStep(_) => false,
                Trouble::FailStep(_, kind) => *kind != buttress_saga::FailureKind::NotDone,
                _ => true,
            };
            let expected = if refused || !signalled {
                State::Undone
            } else {
                State::Completed
            };
            assert_eq!(outcome.state, expected, "{outcome:?}");
        });
        assert!(runs.unwrap() > 30);
    }
}
