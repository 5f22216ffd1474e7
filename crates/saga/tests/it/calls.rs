//! One saga at a time: what is done, what is undone, what is told.

use std::{sync::Arc, time::Duration};

use buttress_retry_backoff::{Backoff, Jitter};
use buttress_saga::{
    By, Effect, Entry, Saga, SagaError, SagaId, Sagas, StartOptions, State, StepPolicy, StepState,
    store::{Filter, Hand, MemoryStore, Started, Store, Then, Write},
};

use crate::world::{Act, Deed, Scripted, Stopwatch, World};

const STEPS: [&str; 4] = ["reserve", "charge", "ship", "confirm"];

/// Four steps, of which the second is the pivot.
pub(crate) fn order(world: &World) -> Saga<u64> {
    let backoff = Backoff::constant(Duration::from_secs(1)).with_jitter(Jitter::None);
    let policy = StepPolicy::default()
        .attempts(3)
        .backoff(backoff.clone())
        .undo_backoff(backoff)
        .timeout(Duration::from_secs(5))
        .undo_timeout(Duration::from_secs(5));
    let mut order = Saga::define("order", 1);
    for name in STEPS {
        let world = world.clone();
        order.step_with(name, Scripted { name, world }, policy.clone());
        if name == "charge" {
            order.pivot();
        }
    }
    order.build().unwrap()
}

pub(crate) struct Stand {
    pub(crate) world: World,
    pub(crate) saga: Saga<u64>,
    pub(crate) sagas: Sagas,
}

impl Stand {
    pub(crate) fn new() -> Self {
        let world = World::default();
        let saga = order(&world);
        let sagas = Sagas::new(MemoryStore::new());
        Self { world, saga, sagas }
    }

    pub(crate) async fn start(&self, number: u64) -> SagaId {
        let options = StartOptions::new();
        let started = self.sagas.start(&self.saga, &number, options).await;
        started.unwrap().id()
    }

    /// Drives for so long, in virtual time.
    pub(crate) async fn drive(&self, seconds: u64) {
        let runner = self.sagas.runner().saga(&self.saga).build().unwrap();
        let end = tokio::time::sleep(Duration::from_secs(seconds));
        runner.run_until(end).await;
    }

    pub(crate) async fn state(&self, id: SagaId) -> (State, Option<String>) {
        let saga = self.sagas.get(id).await.unwrap();
        (saga.state, saga.reason)
    }

    async fn steps(&self, id: SagaId) -> Vec<StepState> {
        let history = self.sagas.history(&self.saga, id).await.unwrap();
        history.steps.iter().map(|step| step.state).collect()
    }

    fn undone(&self, number: u64) -> Vec<&'static str> {
        let deeds = self.world.log(number).into_iter();
        deeds
            .filter_map(|deed| match deed {
                Deed::Undo(step, _) => Some(step),
                Deed::Run(_) => None,
            })
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn steps_are_done_in_order() {
    let stand = Stand::new();
    let id = stand.start(1).await;
    stand.drive(2).await;
    assert_eq!(stand.state(id).await, (State::Completed, None));
    assert_eq!(stand.world.log(1), STEPS.map(Deed::Run));
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    assert_eq!(
        history.lines.len(),
        9,
        "started and succeeded, four times, and completed"
    );
    assert!(matches!(history.lines[8].1, Entry::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_refused_step_is_not_undone_and_those_before_it_are_in_the_opposite_order() {
    let stand = Stand::new();
    stand.world.script(1, "charge", &[Act::Refused]);
    let id = stand.start(1).await;
    stand.drive(2).await;
    assert_eq!(
        stand.state(id).await,
        (State::Undone, Some("REFUSED".into()))
    );
    assert_eq!(stand.undone(1), ["reserve"]);
    let done = Effect::Done("reserve of 1".to_owned());
    assert_eq!(stand.world.log(1)[2], Deed::Undo("reserve", done));
    let expected = [
        StepState::Undone,
        StepState::Failed,
        StepState::Pending,
        StepState::Pending,
    ];
    assert_eq!(stand.steps(id).await, expected);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_step_is_undone_and_told_so_and_its_late_arrival_is_refused() {
    let tally = buttress_testkit::tally::suite("SG6");
    let stand = Stand::new();
    let late = Act::Late(Duration::from_secs(120));
    stand.world.script(1, "charge", &[late, late, late]);
    let id = stand.start(1).await;
    stand.drive(60).await;
    assert_eq!(
        stand.state(id).await,
        (State::Undone, Some("TIMED_OUT".into()))
    );
    assert!(
        stand
            .world
            .log(1)
            .contains(&Deed::Undo("charge", Effect::Unknown))
    );
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!stand.world.has(id, "charge"), "compensation wins");
    tally.faults(3);
}

#[tokio::test(start_paused = true)]
async fn a_step_is_tried_again_under_one_key_and_waits_in_between() {
    let stand = Stand::new();
    let acts = [Act::NotDone, Act::AnswerLost];
    stand.world.script(1, "charge", &acts);
    let id = stand.start(1).await;
    let start = Stopwatch::start();
    let until_done = async {
        while stand.state(id).await.0 != State::Completed {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let runner = stand.sagas.runner().saga(&stand.saga).build().unwrap();
    runner.run_until(until_done).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    assert_eq!(history.steps[1].attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn behind_the_pivot_there_is_only_forward() {
    let stand = Stand::new();
    stand.world.script(1, "ship", &[Act::NotDone; 40]);
    let id = stand.start(1).await;
    stand.drive(30).await;
    assert_eq!(stand.state(id).await.0, State::Running, "tried without end");
    let cancelled = stand
        .sagas
        .cancel(&stand.saga, id, By::new("me", "why not"))
        .await;
    assert!(matches!(cancelled, Err(SagaError::WrongState { .. })));
    stand.drive(60).await;
    assert_eq!(stand.state(id).await.0, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn behind_the_pivot_nothing_is_cancelled_also_if_it_needs_attention() {
    let stand = Stand::new();
    let by = || By::new("me", "why not");
    stand.world.script(1, "ship", &[Act::Refused]);
    let id = stand.start(1).await;
    stand.drive(2).await;
    assert_eq!(stand.state(id).await.0, State::NeedsAttention);
    let refused = stand.sagas.cancel(&stand.saga, id, by()).await;
    assert!(matches!(refused, Err(SagaError::WrongState { .. })));
    stand.sagas.resume(&stand.saga, id, by()).await.unwrap();
    stand.drive(2).await;
    assert_eq!(stand.state(id).await.0, State::Completed);
    // What is turned back already, and parked on that way, stays where it is.
    stand.world.script(2, "charge", &[Act::Refused]);
    stand.world.undo_script(2, "reserve", &[Act::Refused]);
    let id = stand.start(2).await;
    stand.drive(2).await;
    assert_eq!(stand.state(id).await.0, State::NeedsAttention);
    let refused = stand.sagas.cancel(&stand.saga, id, by()).await;
    assert!(matches!(refused, Err(SagaError::WrongState { .. })));
}

/// A worker that died behind the last step's own commit, where branches leave what follows to a
/// write of its own.
#[tokio::test(start_paused = true)]
async fn what_has_passed_its_pivot_is_not_cancelled_before_that_it_is_completed_is_written() {
    let world = World::default();
    let step = |name| Scripted {
        name,
        world: world.clone(),
    };
    let mut saga = Saga::define("forked", 1);
    saga.fork(|fork| {
        fork.branch(|branch| branch.step("a", step("a")));
        fork.branch(|branch| branch.step("b", step("b")));
    });
    saga.pivot();
    let saga = saga.build().unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store));
    let started = sagas.start(&saga, &1, StartOptions::new()).await;
    let id = started.unwrap().id();
    let begun = |(step, name): (usize, &str)| Entry::Started {
        step,
        name: name.to_owned(),
        attempt: 1,
    };
    let done = |step| Entry::Succeeded {
        step,
        output: "\"done\"".to_owned(),
    };
    let mut entries: Vec<_> = [(0, "a"), (1, "b")].into_iter().map(begun).collect();
    entries.extend([0, 1].map(done));
    let write = Write {
        expected: 0,
        entries,
        state: State::Running,
        reason: None,
        then: Then::Release(Duration::ZERO),
        progress: true,
        starts: Vec::new(),
        wakes: None,
    };
    assert!(store.append(id, Hand::Operator, &write).await.unwrap());
    let refused = sagas.cancel(&saga, id, By::new("me", "why not")).await;
    assert!(matches!(refused, Err(SagaError::WrongState { .. })));
    let runner = sagas.runner().saga(&saga).build().unwrap();
    runner.run_once().await.unwrap();
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    assert!(world.log(1).is_empty(), "neither run again nor undone");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_behind_the_pivot_needs_attention_and_is_resumed() {
    let stand = Stand::new();
    stand.world.script(1, "ship", &[Act::Refused, Act::Refused]);
    let id = stand.start(1).await;
    stand.drive(2).await;
    let parked = (State::NeedsAttention, Some("REFUSED".into()));
    assert_eq!(stand.state(id).await, parked);
    let by = By::new("ada", "the address was mended");
    stand
        .sagas
        .resume(&stand.saga, id, by.clone())
        .await
        .unwrap();
    stand.drive(2).await;
    assert_eq!(stand.state(id).await, parked, "refused again");
    stand
        .sagas
        .resume(&stand.saga, id, by.clone())
        .await
        .unwrap();
    stand.drive(2).await;
    assert_eq!(stand.state(id).await.0, State::Completed);
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    let resumed = Entry::Resumed { by };
    let audits = history.lines.iter().filter(|(_, it)| *it == resumed);
    assert_eq!(audits.count(), 2, "who and why is in the journal");
}

#[tokio::test(start_paused = true)]
async fn a_refused_undo_is_parked_after_all_others_and_can_be_skipped() {
    let tally = buttress_testkit::tally::suite("SG3");
    let stand = Stand::new();
    stand.world.script(
        1,
        "charge",
        &[Act::AnswerLost, Act::RequestLost, Act::Refused],
    );
    stand.world.undo_script(1, "charge", &[Act::Refused]);
    let id = stand.start(1).await;
    stand.drive(10).await;
    assert_eq!(stand.undone(1), ["charge", "reserve"], "all are attempted");
    assert_eq!(stand.state(id).await.0, State::NeedsAttention);
    let parked = Filter {
        state: Some(State::NeedsAttention),
        name: None,
        business_key: None,
        parent: None,
        before: None,
        limit: 5,
    };
    assert_eq!(stand.sagas.list(&parked).await.unwrap().len(), 1, "visible");
    let by = By::new("ada", "refunded by hand");
    let skip = |step| stand.sagas.skip_undo(&stand.saga, id, step, by.clone());
    assert!(matches!(skip("nothing").await, Err(SagaError::NoSuchStep)));
    skip("charge").await.unwrap();
    stand.drive(2).await;
    assert_eq!(
        stand.state(id).await,
        (State::Undone, Some("REFUSED".into()))
    );
    tally.faults(4);
}

#[tokio::test(start_paused = true)]
async fn an_undo_is_tried_until_its_target_is_back() {
    let tally = buttress_testkit::tally::suite("SG3");
    let stand = Stand::new();
    stand.world.script(1, "charge", &[Act::Refused]);
    let down = [Act::NotDone, Act::RequestLost, Act::Panic, Act::Hang];
    stand.world.undo_script(1, "reserve", &down);
    let id = stand.start(1).await;
    stand.drive(60).await;
    assert_eq!(stand.state(id).await.0, State::Undone);
    assert_eq!(stand.undone(1), ["reserve"; 5]);
    tally.faults(5);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_unknown_effect_and_kills_no_runner() {
    let stand = Stand::new();
    stand.world.script(1, "reserve", &[Act::Panic]);
    let id = stand.start(1).await;
    stand.drive(5).await;
    assert_eq!(stand.state(id).await.0, State::Completed);
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    assert_eq!(history.steps[0].code.as_deref(), Some("PANICKED"));
}

#[tokio::test(start_paused = true)]
async fn a_forced_step_is_taken_for_done_with_what_it_is_said_to_have_returned() {
    let stand = Stand::new();
    stand.world.script(1, "ship", &[Act::Refused]);
    let id = stand.start(1).await;
    stand.drive(2).await;
    let by = By::new("ada", "carried there");
    let output = "parcel 7".to_owned();
    let forced = stand.sagas.force(&stand.saga, id, "ship", &output, by);
    forced.await.unwrap();
    stand.drive(2).await;
    assert_eq!(stand.state(id).await.0, State::Completed);
    assert!(!stand.world.has(id, "ship"), "it was not run again");
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_is_undone_and_who_drives_it_loses_it() {
    let stand = Stand::new();
    stand.world.script(1, "charge", &[Act::Hang]);
    let id = stand.start(1).await;
    let canceller = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let by = By::new("ada", "the customer called");
        stand.sagas.cancel(&stand.saga, id, by).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
    };
    let runner = stand.sagas.runner().saga(&stand.saga).build().unwrap();
    runner.run_until(canceller).await;
    assert_eq!(
        stand.state(id).await,
        (State::Undone, Some("CANCELLED".into()))
    );
    assert_eq!(stand.undone(1), ["charge", "reserve"]);
    assert!(!stand.world.has(id, "charge") && !stand.world.has(id, "reserve"));
}

#[tokio::test(start_paused = true)]
async fn starting_twice_is_one_saga() {
    let stand = Stand::new();
    let options = || StartOptions::new().key("order 7");
    let one = stand.sagas.start(&stand.saga, &1, options()).await.unwrap();
    let other = stand.sagas.start(&stand.saga, &2, options()).await.unwrap();
    assert_eq!(other, Started::Running(one.id()));
    stand.drive(2).await;
    let next = stand.sagas.start(&stand.saga, &3, options()).await.unwrap();
    assert!(matches!(next, Started::New(_)), "the first has ended");
}

#[tokio::test(start_paused = true)]
async fn the_way_forward_ends_at_its_deadline_and_the_way_back_has_none() {
    let world = World::default();
    world.script(1, "one", &[Act::NotDone; 100]);
    world.undo_script(1, "zero", &[Act::NotDone; 20]);
    let mut saga = Saga::define("hurried", 1);
    let backoff = Backoff::constant(Duration::from_secs(1));
    let policy = StepPolicy::default()
        .unlimited_attempts()
        .backoff(backoff.clone())
        .undo_backoff(backoff);
    for name in ["zero", "one"] {
        let world = world.clone();
        saga.step_with(name, Scripted { name, world }, policy.clone());
    }
    saga.forward_within(Duration::from_secs(10));
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let started = sagas.start(&saga, &1, StartOptions::new()).await;
    let id = started.unwrap().id();
    let runner = sagas.runner().saga(&saga).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(90)))
        .await;
    let ended = sagas.get(id).await.unwrap();
    assert_eq!(
        (ended.state, ended.reason.as_deref()),
        (State::Undone, Some("DEADLINE"))
    );
    let attempts = world
        .log(1)
        .iter()
        .filter(|it| **it == Deed::Run("one"))
        .count();
    assert!((9..=12).contains(&attempts), "{attempts}");
}
