//! Cases of other systems' specifications and tests, by their ids.

use std::{sync::Arc, time::Duration};

use buttress_retry_backoff::{Backoff, Jitter};
use buttress_saga::{
    Effect, Entry, Saga, SagaError, SagaId, Sagas, StartOptions, State, StepPolicy,
    store::{MemoryStore, Started, Store},
};

use crate::{
    shaky::{Fate, Shaky},
    world::{Act, Deed, Scripted, Stopwatch, World},
};

/// Three steps without a pivot, each tried twice, a second apart.
struct Stand {
    world: World,
    saga: Saga<u64>,
    store: Arc<dyn Store>,
    sagas: Sagas,
}

impl Stand {
    fn on(store: Arc<dyn Store>) -> Self {
        let world = World::default();
        let mut saga = Saga::define("vectors", 1);
        let policy = StepPolicy::default()
            .attempts(2)
            .backoff(Backoff::constant(Duration::from_secs(1)))
            .timeout(Duration::from_secs(10));
        for name in ["one", "two", "three"] {
            let world = world.clone();
            saga.step_with(name, Scripted { name, world }, policy.clone());
        }
        let saga = saga.build().unwrap();
        let sagas = Sagas::shared(Arc::clone(&store));
        Self {
            world,
            saga,
            store,
            sagas,
        }
    }

    fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()))
    }

    async fn start(&self) -> SagaId {
        let started = self.sagas.start(&self.saga, &1, StartOptions::new()).await;
        started.unwrap().id()
    }

    async fn drive(&self, time: Duration) {
        let runner = self.sagas.runner().saga(&self.saga).build().unwrap();
        runner.run_until(tokio::time::sleep(time)).await;
    }

    async fn state(&self, id: SagaId) -> State {
        self.sagas.get(id).await.unwrap().state
    }

    fn undone(&self) -> Vec<&'static str> {
        let undone = |deed| match deed {
            Deed::Undo(step, _) => Some(step),
            Deed::Run(_) => None,
        };
        self.world.log(1).into_iter().filter_map(undone).collect()
    }

    fn runs(&self, step: &'static str) -> usize {
        let deeds = self.world.log(1);
        deeds.iter().filter(|it| **it == Deed::Run(step)).count()
    }
}

const A_MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn sg_01_sg_09_the_failed_step_is_not_undone_and_the_others_are_in_reverse() {
    let stand = Stand::new();
    stand.world.script(1, "three", &[Act::Refused]);
    let id = stand.start().await;
    stand.drive(A_MINUTE).await;
    assert_eq!(stand.state(id).await, State::Undone);
    assert_eq!(stand.undone(), ["two", "one"]);
}

#[tokio::test(start_paused = true)]
async fn sg_03_sg_06_sg_11_an_undo_that_fails_stops_no_other_and_is_not_claimed_done() {
    let stand = Stand::new();
    stand.world.script(1, "three", &[Act::Refused]);
    stand.world.undo_script(1, "two", &[Act::Refused]);
    let id = stand.start().await;
    stand.drive(A_MINUTE).await;
    assert_eq!(stand.state(id).await, State::NeedsAttention);
    assert_eq!(stand.undone(), ["two", "one"]);
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    let failed = |line: &&(_, Entry)| matches!(line.1, Entry::UndoFailed { step: 1, .. });
    assert_eq!(history.lines.iter().filter(failed).count(), 1);
    let undone = |line: &&(_, Entry)| matches!(line.1, Entry::Undone { step: 1 });
    assert_eq!(history.lines.iter().filter(undone).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn sg_05_what_is_unknown_is_undone_also_if_it_never_arrived() {
    let stand = Stand::new();
    let lost = [Act::RequestLost, Act::RequestLost];
    stand.world.script(1, "two", &lost);
    let id = stand.start().await;
    stand.drive(A_MINUTE).await;
    assert_eq!(stand.state(id).await, State::Undone);
    assert!(
        stand
            .world
            .log(1)
            .contains(&Deed::Undo("two", Effect::Unknown))
    );
}

#[tokio::test(start_paused = true)]
async fn sg_13_what_cannot_be_started_is_the_callers_error_and_no_saga() {
    let stand = Stand::new();
    let empty = StartOptions::new().key("");
    let refused = stand.sagas.start(&stand.saga, &1, empty).await;
    assert!(matches!(refused, Err(SagaError::Key(_))));
    assert!(stand.sagas.census().await.unwrap().is_empty());
}

#[test]
fn sg_22_sg_23_sg_25_sg_31_delays_grow_and_are_capped() {
    let exponential = |first: u64, factor: f64, cap: u64| {
        Backoff::exponential(Duration::from_secs(first))
            .with_factor(factor)
            .with_cap(Duration::from_secs(cap))
            .with_jitter(Jitter::None)
    };
    for (id, backoff, place, seconds) in [
        ("SG-22", exponential(2, 3.0, 3600), 3, 54),
        ("SG-23", exponential(3, 2.0, 1), 4, 1),
        ("SG-25", exponential(2, 2.0, 1800), 9, 1024),
        ("SG-31", exponential(1, 2.0, 3), 0, 1),
        ("SG-31", exponential(1, 2.0, 3), 1, 2),
        ("SG-31", exponential(1, 2.0, 3), 2, 3),
        ("SG-31", exponential(1, 2.0, 3), 3, 3),
    ] {
        let delay = backoff.delays().nth(place).unwrap();
        assert_eq!(delay, Duration::from_secs(seconds), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn sg_26_the_deadline_ends_the_attempts() {
    let world = World::default();
    world.script(1, "one", &[Act::NotDone; 100]);
    let mut saga = Saga::define("hurried", 1);
    let backoff = Backoff::constant(Duration::from_secs(10));
    let policy = StepPolicy::default().unlimited_attempts().backoff(backoff);
    let name = "one";
    saga.step_with(name, Scripted { name, world }, policy);
    saga.forward_within(A_MINUTE);
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let started = sagas.start(&saga, &1, StartOptions::new()).await;
    let runner = sagas.runner().saga(&saga).build().unwrap();
    runner.run_until(tokio::time::sleep(A_MINUTE * 2)).await;
    let ended = sagas.get(started.unwrap().id()).await.unwrap();
    assert_eq!(ended.reason.as_deref(), Some("DEADLINE"));
}

#[test]
fn sg_30_a_policy_that_cannot_work_does_not_build() {
    let policy = StepPolicy::default().attempts(0);
    let mut saga = Saga::define("wrong", 1);
    let (name, world) = ("one", World::default());
    saga.step_with(name, Scripted { name, world }, policy);
    let refused = saga.build().unwrap_err();
    let source = std::error::Error::source(&refused).unwrap();
    assert_eq!(source.to_string(), "attempts must be from 1");
}

#[tokio::test(start_paused = true)]
async fn sg_42_an_id_that_has_ended_is_not_run_again() {
    let stand = Stand::new();
    let id = SagaId::random();
    for round in 0..7 {
        let options = StartOptions::new().id(id);
        let started = stand.sagas.start(&stand.saga, &1, options).await.unwrap();
        let expected = if round == 0 {
            Started::New(id)
        } else {
            Started::Running(id)
        };
        assert_eq!(started, expected);
        stand.drive(Duration::from_secs(2)).await;
        assert_eq!(stand.state(id).await, State::Completed);
    }
    assert_eq!(stand.runs("one"), 1);
}

#[tokio::test(start_paused = true)]
async fn sg_45_sg_51_a_saga_that_somebody_drives_is_driven_by_nobody_else() {
    let stand = Stand::new();
    let late = Act::Late(Duration::from_secs(5));
    stand.world.script(1, "one", &[late]);
    let id = SagaId::random();
    let start = || {
        stand
            .sagas
            .start(&stand.saga, &1, StartOptions::new().id(id))
    };
    let (one, other) = tokio::join!(start(), start());
    assert_ne!(one.unwrap(), other.unwrap());
    let drive = || stand.drive(Duration::from_secs(9));
    tokio::join!(drive(), drive(), drive());
    assert_eq!(stand.runs("one"), 1);
}

#[tokio::test(start_paused = true)]
async fn sg_47_the_outcome_belongs_to_the_claim_and_a_late_worker_writes_nothing() {
    // Two questions for work, the beginning of the first step, and then its end: that and all that
    // follows, the heartbeat too, comes when another has the saga.
    let late = |number| match number {
        3.. => Fate::LateBefore(A_MINUTE),
        _ => Fate::Well,
    };
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let stand = Stand::on(Arc::clone(&inner));
    let zombie = Sagas::shared(Arc::new(Shaky::new(inner, late)));
    let id = stand.start().await;
    let runner = zombie.runner().saga(&stand.saga).build().unwrap();
    let stopped = runner.run_until(tokio::time::sleep(A_MINUTE * 2));
    let other = async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        stand.drive(Duration::from_secs(10)).await;
        assert_eq!(stand.state(id).await, State::Completed);
        stand.store.read(id).await.unwrap().unwrap()
    };
    let ((), before) = tokio::join!(stopped, other);
    let after = stand.store.read(id).await.unwrap().unwrap();
    assert_eq!(after.journal, before.journal);
}

#[tokio::test(start_paused = true)]
async fn sg_49_sg_50_attempts_end_and_nobody_waits_behind_the_last() {
    let stand = Stand::new();
    stand.world.script(1, "one", &[Act::NotDone; 5]);
    let id = stand.start().await;
    let start = Stopwatch::start();
    let until_rest = async {
        while stand.state(id).await.is_active() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let runner = stand.sagas.runner().saga(&stand.saga).build().unwrap();
    runner.run_until(until_rest).await;
    assert_eq!(stand.runs("one"), 2);
    assert!(
        start.elapsed() < Duration::from_millis(2500),
        "one wait, and a poll"
    );
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    let causes = |line: &&(_, Entry)| matches!(line.1, Entry::Failed { .. });
    assert_eq!(history.lines.iter().filter(causes).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn sg_53_a_write_that_fails_ten_times_is_made_at_the_eleventh() {
    let fate = |number| match number {
        2..=11 => Fate::Fails,
        _ => Fate::Well,
    };
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let stand = Stand::on(Arc::clone(&inner));
    let id = stand.start().await;
    let sagas = Sagas::shared(Arc::new(Shaky::new(inner, fate)));
    let runner = sagas.runner().saga(&stand.saga).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(8)))
        .await;
    assert_eq!(stand.state(id).await, State::Completed);
    assert_eq!(stand.runs("one"), 1);
}

#[tokio::test(start_paused = true)]
async fn sg_54_a_refusal_that_is_written_down_is_not_asked_for_again() {
    // The refusal is written, and its writer dies before it hears so.
    let fate = |number| match number {
        3 => Fate::LateAfter(A_MINUTE),
        _ => Fate::Well,
    };
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let stand = Stand::on(Arc::clone(&inner));
    stand.world.script(1, "one", &[Act::Refused]);
    let id = stand.start().await;
    let sagas = Sagas::shared(Arc::new(Shaky::new(inner, fate)));
    let runner = sagas.runner().saga(&stand.saga).build().unwrap();
    let dies = runner.run_until(std::future::pending());
    let _ = tokio::time::timeout(Duration::from_secs(5), dies).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    stand.drive(Duration::from_secs(5)).await;
    assert_eq!(stand.state(id).await, State::Undone);
    assert_eq!(stand.runs("one"), 1);
}

#[tokio::test(start_paused = true)]
async fn sg_55_a_step_that_is_stopped_has_no_outcome_and_runs_again() {
    let stand = Stand::new();
    stand.world.script(1, "two", &[Act::Hang]);
    let id = stand.start().await;
    let runner = stand.sagas.runner().saga(&stand.saga);
    let policy = buttress_saga::RunnerPolicy::default().grace(Duration::ZERO);
    let runner = runner.policy(policy).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(1)))
        .await;
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    assert_eq!(history.lines.last().unwrap().1, Entry::Interrupted);
    stand.drive(Duration::from_secs(2)).await;
    assert_eq!(stand.state(id).await, State::Completed);
    assert_eq!(stand.runs("two"), 2);
}
