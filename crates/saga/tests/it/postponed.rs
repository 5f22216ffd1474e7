//! What a breaker keeps back is no attempt.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_saga::{
    By, Context, Effect, Entry, FailureKind, Saga, Sagas, StartOptions, State, Step, StepError,
    StepPolicy, StepState, UndoContext, store::MemoryStore,
};

use crate::{
    calls::Stand,
    world::{Act, Deed, Scripted, Stopwatch, World},
};

const KEPT: Act = Act::Kept(Duration::from_secs(2));

#[tokio::test(start_paused = true)]
async fn what_is_postponed_uses_no_attempt_up_and_waits_as_it_was_told() {
    let stand = Stand::new();
    // Three attempts are allowed; it is kept back ten times in between.
    let mut acts = vec![Act::NotDone];
    acts.extend([KEPT; 10]);
    acts.push(Act::AnswerLost);
    stand.world.script(1, "charge", &acts);
    let id = stand.start(1).await;
    let start = Stopwatch::start();
    let until_done = async {
        while stand.state(id).await.0 == State::Running {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let runner = stand.sagas.runner().saga(&stand.saga).build().unwrap();
    runner.run_until(until_done).await;
    assert_eq!(stand.state(id).await, (State::Completed, None));
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    assert_eq!(history.steps[1].attempts, 3);
    let (least, most) = (Duration::from_secs(22), Duration::from_secs(50));
    let took = start.elapsed();
    assert!(least <= took && took < most, "{took:?}");
    let kept = history.lines.iter().filter(|(_, entry)| {
        matches!(
            entry,
            Entry::Failed {
                kind: FailureKind::Postponed,
                attempt: 2,
                ..
            }
        )
    });
    assert_eq!(kept.count(), 10, "each is in the journal");
}

#[tokio::test(start_paused = true)]
async fn what_was_only_postponed_had_no_effect_and_is_not_undone() {
    let stand = Stand::new();
    stand.world.script(1, "charge", &[KEPT; 100]);
    let id = stand.start(1).await;
    stand.drive(30).await;
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    let charge = &history.steps[1];
    assert_eq!((charge.state, charge.attempts), (StepState::Pending, 0));
    let by = By::new("ada", "the customer called");
    stand.sagas.cancel(&stand.saga, id, by).await.unwrap();
    stand.drive(10).await;
    assert_eq!(stand.state(id).await.0, State::Undone);
    let undone = stand.world.log(1).into_iter();
    let undone = undone.filter(|deed| matches!(deed, Deed::Undo(..)));
    let reserved = Effect::Done("reserve of 1".to_owned());
    assert_eq!(
        undone.collect::<Vec<_>>(),
        [Deed::Undo("reserve", reserved)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_paused_does_not_begin_and_costs_no_line() {
    let stand = Stand::new();
    stand.world.script(1, "charge", &[Act::Refused]);
    let pause = Some(Duration::from_secs(2));
    stand.world.pause(pause);
    let id = stand.start(1).await;
    stand.drive(600).await;
    let lines = async || {
        let history = stand.sagas.history(&stand.saga, id).await.unwrap();
        history.lines.len()
    };
    assert_eq!((stand.world.log(1), lines().await), (vec![], 0));
    let changing = async {
        // Opens again while the refused charge waits to have what was before it undone.
        stand.world.pause(None);
        while stand.world.log(1).len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stand.world.pause(pause);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let before = lines().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(lines().await, before);
        stand.world.pause(None);
        tokio::time::sleep(Duration::from_secs(10)).await;
    };
    let runner = stand.sagas.runner().saga(&stand.saga).build().unwrap();
    runner.run_until(changing).await;
    assert_eq!(stand.state(id).await.0, State::Undone);
}

#[tokio::test(start_paused = true)]
async fn an_undo_is_postponed_as_well_and_an_earlier_doubt_stays() {
    let stand = Stand::new();
    let acts = [Act::AnswerLost, KEPT, Act::NotDone, KEPT, Act::NotDone];
    stand.world.script(1, "charge", &acts);
    stand.world.undo_script(1, "charge", &[KEPT; 5]);
    let id = stand.start(1).await;
    stand.drive(60).await;
    assert_eq!(stand.state(id).await.0, State::Undone);
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    let charge = &history.steps[1];
    assert_eq!((charge.attempts, charge.undo_attempts), (3, 1));
    let doubted = Deed::Undo("charge", Effect::Unknown);
    assert!(stand.world.log(1).contains(&doubted));
    assert!(!stand.world.has(id, "charge"));
}

/// Whatever keeps it back between two attempts.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_way_forward_strikes_while_a_step_is_kept_back() {
    let long = Duration::from_secs(3600);
    for paused in [false, true] {
        let world = World::default();
        world.script(1, "b", &[Act::Kept(long); 10]);
        let mut saga = Saga::define("hurried", 1);
        for name in ["a", "b"] {
            let world = world.clone();
            saga.step(name, Scripted { name, world });
        }
        saga.forward_within(Duration::from_secs(10));
        let saga = saga.build().unwrap();
        let sagas = Sagas::new(MemoryStore::new());
        let started = sagas.start(&saga, &1, StartOptions::new()).await.unwrap();
        world.pause(paused.then_some(long));
        let runner = sagas.runner().saga(&saga).build().unwrap();
        let late = tokio::time::sleep(Duration::from_secs(15));
        runner.run_until(late).await;
        let saga = sagas.get(started.id()).await.unwrap();
        let ended = (saga.state, saga.reason.as_deref());
        assert_eq!(ended, (State::Undone, Some("DEADLINE")), "{paused}");
    }
}

/// Takes a while, and then asks to be left alone for an hour.
struct Busy(Arc<Mutex<u32>>);

impl Step for Busy {
    type Input = ();
    type Output = ();

    async fn run(&self, _: &Context<'_, ()>) -> Result<(), StepError> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        *self.0.lock().unwrap() += 1;
        Err(StepError::not_done("BUSY").with_retry_after(Duration::from_secs(3600)))
    }
}

#[tokio::test(start_paused = true)]
async fn who_asked_to_be_left_alone_is_not_asked_by_the_next_runner_when_one_stops() {
    let asked = Arc::new(Mutex::new(0));
    let mut saga = Saga::define("busy", 1);
    saga.step("busy", Busy(Arc::clone(&asked)));
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    sagas.start(&saga, &(), StartOptions::new()).await.unwrap();
    // The first stops in the middle of the attempt, which may end.
    for (life, expected) in [(1, 1), (3500, 1), (200, 2)] {
        let runner = sagas.runner().saga(&saga).build().unwrap();
        let life = tokio::time::sleep(Duration::from_secs(life));
        runner.run_until(life).await;
        assert_eq!(*asked.lock().unwrap(), expected);
    }
}

/// Refuses, and takes down why it is undone.
struct Refuses(Arc<Mutex<Vec<String>>>);

impl Step for Refuses {
    type Input = ();
    type Output = ();

    async fn run(&self, _: &Context<'_, ()>) -> Result<(), StepError> {
        Err(StepError::refused("SOLD_OUT"))
    }

    async fn undo(&self, undo: &UndoContext<'_, ()>, effect: Effect<()>) -> Result<(), StepError> {
        assert_eq!(effect, Effect::None);
        self.0.lock().unwrap().push(undo.reason().to_owned());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_is_told_why_and_a_refused_step_stays_failed() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut saga = Saga::define("told", 1);
    let policy = StepPolicy::default().undo_always();
    saga.step_with("reserve", Refuses(Arc::clone(&told)), policy);
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let started = sagas.start(&saga, &(), StartOptions::new()).await.unwrap();
    let runner = sagas.runner().saga(&saga).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(5)))
        .await;
    let history = sagas.history(&saga, started.id()).await.unwrap();
    assert_eq!(history.saga.state, State::Undone);
    assert_eq!(history.steps[0].state, StepState::Failed);
    assert_eq!(*told.lock().unwrap(), ["SOLD_OUT"]);
}
