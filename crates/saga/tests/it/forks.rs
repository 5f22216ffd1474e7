//! Branches that are done side by side: joined, undone, and found again after a crash.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use buttress_retry_backoff::Backoff;
use buttress_saga::{
    By, Context, Effect, Entry, FailureKind, Output, RunnerPolicy, Saga, SagaBuilder, SagaId,
    Sagas, StartOptions, State, Step, StepError, StepPolicy, StepState,
    store::{MemoryStore, Store},
    testing::{Harness, Trouble},
};
use tokio::sync::Barrier;

use crate::{
    shaky::{Fate, Shaky},
    world::{Act, Deed, Scripted, World},
};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn step(world: &World, name: &'static str) -> Scripted {
    Scripted {
        name,
        world: world.clone(),
    }
}

/// One, then two and three beside four and five, then six.
fn define(world: &World) -> SagaBuilder<u64> {
    let mut saga = Saga::define("forked", 1);
    saga.step("a", step(world, "a"));
    saga.fork(|fork| {
        fork.branch(|branch| {
            branch.step("b", step(world, "b"));
            branch.step("c", step(world, "c"));
        });
        fork.branch(|branch| {
            branch.step("d", step(world, "d"));
            branch.step("e", step(world, "e"));
        });
    });
    saga.step("f", step(world, "f"));
    saga
}

pub(crate) async fn start(sagas: &Sagas, saga: &Saga<u64>) -> SagaId {
    let started = sagas.start(saga, &0, StartOptions::new()).await;
    started.unwrap().id()
}

/// A runner until then, which is dropped.
pub(crate) async fn live(sagas: &Sagas, saga: &Saga<u64>, life: Duration) {
    let runner = sagas.runner().saga(saga).build().unwrap();
    let _ = tokio::time::timeout(life, runner.run_until(std::future::pending())).await;
}

fn undone(world: &World) -> Vec<(&'static str, Effect<String>)> {
    let deeds = world.log(0).into_iter();
    let undone = deeds.filter_map(|it| match it {
        Deed::Undo(step, effect) => Some((step, effect)),
        Deed::Run(_) => None,
    });
    undone.collect()
}

/// Ends only once so many of them are under way.
struct Meet(Arc<Barrier>);

impl Step for Meet {
    type Input = u64;
    type Output = u64;

    async fn run(&self, context: &Context<'_, u64>) -> Result<u64, StepError> {
        self.0.wait().await;
        Ok(context.idempotency_key().len() as u64)
    }
}

struct Add(Vec<Output<u64>>);

impl Step for Add {
    type Input = u64;
    type Output = u64;

    async fn run(&self, context: &Context<'_, u64>) -> Result<u64, StepError> {
        let mut sum = 0;
        for output in &self.0 {
            sum += context.output(*output)?;
        }
        Ok(sum)
    }
}

#[tokio::test(start_paused = true)]
async fn branches_run_side_by_side_begin_in_one_commit_and_their_outputs_are_read_behind_them() {
    let meet = Arc::new(Barrier::new(3));
    let mut saga = Saga::define("meet", 1);
    let outputs = saga.fork(|fork| {
        let mut outputs = Vec::new();
        for name in ["x", "yy", "zzz"] {
            let meet = Meet(Arc::clone(&meet));
            outputs.push(fork.branch(|branch| branch.step(name, meet)));
        }
        outputs
    });
    saga.step("sum", Add(outputs));
    let saga = saga.build().unwrap();
    let store = Arc::new(Shaky::new(Arc::new(MemoryStore::new()), |_| Fate::Well));
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, SOON).await;
    let history = sagas.history(&saga, id).await.unwrap();
    assert_eq!(history.saga.state, State::Completed, "{history:#?}");
    let sum = history.lines.iter().find_map(|(_, entry)| match entry {
        Entry::Succeeded { step: 3, output } => Some(output.clone()),
        _ => None,
    });
    // Each key is the saga's id, a dot and the step's name.
    assert_eq!(sum, Some((3 * 37 + 6).to_string()));
    let appends = store.appends.load(Ordering::Relaxed);
    assert_eq!(appends, 5, "one to begin, and one for each step's end");
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_fails_lets_the_others_end_and_what_was_done_is_undone() {
    let world = World::default();
    let saga = define(&world).build().unwrap();
    // The first branch is refused at once; the second is in its first step for a while.
    world.script(0, "b", &[Act::Refused]);
    world.script(0, "d", &[Act::Late(Duration::from_secs(3))]);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, Duration::from_secs(1)).await;
    let by_now = sagas.history(&saga, id).await.unwrap();
    let states: Vec<_> = by_now.steps.iter().map(|it| it.state).collect();
    use StepState::{Done, Failed, Pending, Running};
    assert_eq!(states[..3], [Done, Failed, Pending]);
    assert!(matches!(states[3], Running | Done), "{states:?}");
    live(&sagas, &saga, 4 * SOON).await;
    let history = sagas.history(&saga, id).await.unwrap();
    assert_eq!(history.saga.state, State::Undone, "{history:#?}");
    assert!(
        !world.log(0).contains(&Deed::Run("e")),
        "nothing new begins"
    );
    assert!(!world.log(0).contains(&Deed::Run("c")));
    let steps: Vec<_> = undone(&world).into_iter().map(|it| it.0).collect();
    assert_eq!(steps, ["d", "a"], "{:?}", world.log(0));
    for name in ["a", "b", "c", "d", "e", "f"] {
        assert!(!world.has(id, name), "{name} is left");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_each_branch_is_kept_through_a_death_in_both() {
    let world = World::default();
    let saga = define(&world).build().unwrap();
    // One is done; of the other nobody knows, for its worker dies; then it is refused.
    world.script(0, "c", &[Act::Hang, Act::Refused]);
    world.script(0, "e", &[Act::Hang, Act::Well]);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, Duration::from_secs(1)).await;
    let by_now = sagas.history(&saga, id).await.unwrap();
    let open = by_now
        .steps
        .iter()
        .filter(|it| it.state == StepState::Running);
    assert_eq!(open.count(), 2, "{by_now:#?}");
    live(&sagas, &saga, 10 * SOON).await;
    let history = sagas.history(&saga, id).await.unwrap();
    assert_eq!(history.saga.state, State::Undone, "{history:#?}");
    let interrupted = history.lines.iter().filter(|it| it.1 == Entry::Interrupted);
    assert_eq!(interrupted.count(), 1, "both at once");
    let undone = undone(&world);
    let steps: Vec<_> = undone.iter().map(|it| it.0).collect();
    assert_eq!(steps, ["e", "d", "c", "b", "a"]);
    assert!(matches!(undone[0].1, Effect::Done(_)), "{undone:?}");
    assert_eq!(undone[2].1, Effect::Unknown, "{undone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_one_branch_holds_no_other_up_and_outlives_its_runner() {
    let world = World::default();
    let long = Duration::from_secs(40);
    let policy = StepPolicy::default().backoff(Backoff::constant(Duration::from_millis(1)));
    let mut saga = Saga::define("waits", 1);
    saga.fork(|fork| {
        fork.branch(|branch| branch.step_with("kept", step(&world, "kept"), policy.clone()));
        fork.branch(|branch| {
            branch.step("one", step(&world, "one"));
            branch.sleep("nap", Duration::from_secs(5));
            branch.step("two", step(&world, "two"));
        });
    });
    let saga = saga.build().unwrap();
    world.script(0, "kept", &[Act::Kept(long)]);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, Duration::from_secs(10)).await;
    // The other branch is done, and the saga is held by nobody until the first may be tried again.
    let history = sagas.history(&saga, id).await.unwrap();
    let states: Vec<_> = history.steps.iter().map(|it| it.state).collect();
    let done = StepState::Done;
    assert_eq!(states, [StepState::Pending, done, done, done]);
    live(&sagas, &saga, Duration::from_secs(25)).await;
    let tried = world
        .log(0)
        .iter()
        .filter(|it| **it == Deed::Run("kept"))
        .count();
    assert_eq!(
        tried, 1,
        "a claim on the way does not forget how long it waits"
    );
    live(&sagas, &saga, SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    let kept = history.lines.iter().find_map(|(_, entry)| match entry {
        Entry::Failed { kind, until, .. } => Some((*kind, until.is_some())),
        _ => None,
    });
    assert_eq!(kept, Some((FailureKind::Postponed, true)));
}

#[tokio::test(start_paused = true)]
async fn a_signal_to_one_branch_is_heard_while_the_other_is_at_work() {
    let world = World::default();
    let policy = StepPolicy::default().timeout(Duration::from_secs(3600));
    let mut saga = Saga::define("hears", 1);
    saga.fork(|fork| {
        fork.branch(|branch| branch.step_with("long", step(&world, "long"), policy));
        fork.branch(|branch| {
            let _: Output<u64> = branch.wait_or_turn_back("paid", Duration::from_secs(3000));
            branch.step("thanks", step(&world, "thanks"));
        });
    });
    let saga = saga.build().unwrap();
    world.script(0, "long", &[Act::Hang]);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    let runner = sagas.runner().saga(&saga).build().unwrap();
    let test = async {
        tokio::time::sleep(SOON).await;
        assert_eq!(world.log(0), [Deed::Run("long")]);
        sagas.signal(id, "paid", "m1", &1_u64).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.log(0), ["long", "thanks"].map(Deed::Run));
    };
    tokio::select! {
        () = test => {}
        () = runner.run_until(std::future::pending()) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_stops_lets_all_branches_end_and_begins_nothing() {
    let world = World::default();
    let saga = define(&world).build().unwrap();
    world.script(0, "b", &[Act::Late(Duration::from_secs(2))]);
    world.script(0, "d", &[Act::Hang]);
    let store = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let id = start(&sagas, &saga).await;
    let policy = RunnerPolicy::default().grace(Duration::from_secs(5));
    let runner = sagas.runner().saga(&saga).policy(policy).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(1)))
        .await;
    let record = store.read(id).await.unwrap().unwrap();
    assert!(!record.held && record.due_at <= record.now, "{record:?}");
    assert_eq!(world.log(0), ["a", "b", "d"].map(Deed::Run));
    live(&sagas, &saga, 4 * SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_way_forward_lets_what_is_under_way_end() {
    let world = World::default();
    let mut saga = define(&world);
    saga.forward_within(Duration::from_secs(10));
    let saga = saga.build().unwrap();
    world.script(0, "b", &[Act::Hang, Act::Well]);
    world.script(0, "d", &[Act::Kept(Duration::from_secs(15))]);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, 10 * SOON).await;
    let ended = sagas.get(id).await.unwrap();
    assert_eq!(ended.state, State::Undone);
    assert_eq!(ended.reason.as_deref(), Some("DEADLINE"));
    let steps: Vec<_> = undone(&world).into_iter().map(|it| it.0).collect();
    assert_eq!(steps, ["b", "a"], "what nobody knows of, and what was done");
}

#[tokio::test(start_paused = true)]
async fn behind_the_pivot_a_branch_that_is_refused_needs_attention_and_goes_on_when_resumed() {
    let world = World::default();
    let mut saga = Saga::define("behind", 1);
    saga.step("a", step(&world, "a"));
    saga.pivot();
    saga.fork(|fork| {
        fork.branch(|branch| branch.step("b", step(&world, "b")));
        fork.branch(|branch| {
            branch.step("c", step(&world, "c"));
            branch.step("d", step(&world, "d"));
        });
    });
    let saga = saga.build().unwrap();
    world.script(0, "b", &[Act::Refused]);
    world.script(0, "c", &[Act::Late(Duration::from_secs(1))]);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, 4 * SOON).await;
    let parked = sagas.history(&saga, id).await.unwrap();
    assert_eq!(parked.saga.state, State::NeedsAttention);
    let by = By::new("test", "b is fine now");
    sagas.resume(&saga, id, by).await.unwrap();
    live(&sagas, &saga, 4 * SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    for name in ["a", "b", "c", "d"] {
        assert!(world.has(id, name), "{name} is not done");
    }
}

#[test]
fn a_saga_with_branches_stands_every_trouble() {
    let world = std::sync::Mutex::new(World::default());
    let make = || {
        let mut current = world.lock().unwrap();
        *current = World::default();
        (define(&current).build().unwrap(), 0)
    };
    let runs = Harness::new(make).run(|outcome, _| {
        let refused = match &outcome.trouble {
            Trouble::None | Trouble::Crash { .. } | Trouble::RepeatStep(_) => false,
            Trouble::FailStep(_, kind) => *kind != FailureKind::NotDone,
            _ => true,
        };
        let (expected, count) = if refused {
            (State::Undone, 0)
        } else {
            (State::Completed, 6)
        };
        assert_eq!(outcome.state, expected, "{outcome:?}");
        let world = world.lock().unwrap();
        let there = ["a", "b", "c", "d", "e", "f"].iter();
        let there = there.filter(|step| world.has(outcome.id, step)).count();
        assert_eq!(there, count, "{outcome:?}");
    });
    let runs = runs.unwrap();
    assert!(runs > 150, "{runs}");
}
