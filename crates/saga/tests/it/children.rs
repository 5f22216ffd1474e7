//! Children: a step that is a saga itself is done, fails and is undone like any other, whoever dies.

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    By, Context, DefinitionError, EventKind, Output, OutputError, RunnerPolicy, Saga, SagaBuilder,
    SagaError, SagaId, Sagas, StartOptions, State, Step, StepError, StepState,
    store::{MemoryStore, Store},
    testing::Harness,
};

use crate::{
    shaky::{Fate, Shaky},
    stand,
    world::{Act, Deed, Scripted, World},
};

pub(crate) const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(7200);

pub(crate) fn step(world: &World, name: &'static str) -> Scripted {
    Scripted {
        name,
        world: world.clone(),
    }
}

/// Children are started with their parent's number and this.
pub(crate) const CHILD: u64 = 1000;

/// Two steps, and it returns what the second did.
fn shipping(world: &World) -> Saga<u64, String> {
    let mut saga = Saga::define("shipping", 1);
    saga.step("x", step(world, "x"));
    let y = saga.step("y", step(world, "y"));
    saga.build_returning(y).unwrap()
}

/// The same with a point of no return between them.
fn decided(world: &World) -> Saga<u64, String> {
    let mut saga = Saga::define("decided", 1);
    saga.step("x", step(world, "x"));
    saga.pivot();
    let y = saga.step("y", step(world, "y"));
    saga.build_returning(y).unwrap()
}

/// Does nothing for hours, unless it is sent a word.
fn waiting(world: &World) -> Saga<u64, u64> {
    let mut saga = Saga::define("waiting", 1);
    saga.step("x", step(world, "x"));
    let word = saga.wait_or_turn_back("word", 12 * LONG);
    saga.build_returning(word).unwrap()
}

fn call<O: serde::de::DeserializeOwned>(
    saga: &mut SagaBuilder<u64>,
    child: &Saga<u64, O>,
) -> Output<O> {
    saga.child("ship", child, |it| Ok(it.input() + CHILD))
}

/// Returns what the child returned.
struct Tell(Output<String>);

impl Step for Tell {
    type Input = u64;
    type Output = String;

    async fn run(&self, context: &Context<'_, u64>) -> Result<String, StepError> {
        Ok(format!("told {}", context.output(self.0)?))
    }
}

/// One, the child, what it returned, two.
fn order(world: &World, child: &Saga<u64, String>) -> Saga<u64, String> {
    let mut saga = Saga::define("order", 1);
    saga.step("a", step(world, "a"));
    let shipped = call(&mut saga, child);
    let told = saga.step("told", Tell(shipped));
    saga.step("b", step(world, "b"));
    saga.build_returning(told).unwrap()
}

async fn start<O>(sagas: &Sagas, saga: &Saga<u64, O>) -> SagaId {
    let started = sagas.start(saga, &0, StartOptions::new()).await;
    started.unwrap().id()
}

/// Two kinds of sagas, driven until nothing is left to be done for now.
async fn live<O, P>(sagas: &Sagas, one: &Saga<u64, O>, other: &Saga<u64, P>, life: Duration) {
    let runner = sagas.runner().saga(one).saga(other).build().unwrap();
    let _ = tokio::time::timeout(life, runner.run_until(std::future::pending())).await;
}

async fn state(sagas: &Sagas, id: SagaId) -> State {
    sagas.get(id).await.unwrap().state
}

/// The one child of a saga.
async fn child(sagas: &Sagas, id: SagaId) -> SagaId {
    let children = sagas.children(id).await.unwrap();
    assert_eq!(children.len(), 1, "{children:?}");
    assert_eq!(children[0].parent, Some(id));
    children[0].id
}

fn undone(world: &World, number: u64) -> Vec<&'static str> {
    let undone = world.log(number).into_iter().filter_map(|it| match it {
        Deed::Undo(name, _) => Some(name),
        Deed::Run(_) => None,
    });
    undone.collect()
}

fn by() -> By {
    By::new("ada", "test")
}

#[tokio::test(start_paused = true)]
async fn a_child_is_one_step_whose_output_is_read_by_those_behind_it() {
    let world = World::default();
    let shipping = shipping(&world);
    let order = order(&world, &shipping);
    let store = Arc::new(Shaky::new(Arc::new(MemoryStore::new()), |_| Fate::Well));
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let id = start(&sagas, &order).await;
    let (events, heard) = std::sync::mpsc::channel();
    let runner = sagas.runner().saga(&order).saga(&shipping);
    let runner = runner.observer(move |event: &buttress_saga::Event| {
        let _ = events.send((event.id, event.kind.clone()));
    });
    runner.build().unwrap().run_once().await.unwrap();
    assert_eq!(state(&sagas, id).await, State::Completed);
    let returned = sagas.returned(&order, id).await.unwrap();
    assert_eq!(returned.as_deref(), Some("told y of 1000"));
    assert_eq!(world.log(0), ["a", "b"].map(Deed::Run));
    assert_eq!(world.log(CHILD), ["x", "y"].map(Deed::Run));
    let child = child(&sagas, id).await;
    let history = sagas.history(&order, id).await.unwrap();
    assert_eq!(history.steps[1].child, Some(child));
    assert_eq!(history.steps[1].state, StepState::Done);
    let key = sagas.get(child).await.unwrap().business_key.unwrap();
    assert_eq!(key.as_bytes(), format!("{id}.ship").as_bytes());
    // Four places and two: N + 1 commits each, the child's start and its end in no other.
    let appends = store.appends.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(appends, 5 + 3);
    let told: Vec<_> = heard.try_iter().filter(|it| it.0 == id).collect();
    let began = |kind: &EventKind| matches!(kind, EventKind::ChildStarted { .. });
    let ended =
        |kind: &EventKind| matches!(kind, EventKind::StepDone { step, .. } if step == "ship");
    assert_eq!(told.iter().filter(|it| began(&it.1)).count(), 1);
    assert_eq!(told.iter().filter(|it| ended(&it.1)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_child_holds_no_place() {
    let world = World::default();
    let mut leaf = Saga::define("leaf", 1);
    leaf.concurrency(1);
    leaf.step("x", step(&world, "x"));
    let leaf = leaf.build().unwrap();
    let nest = |name: &str, child: &Saga<u64>| {
        let mut saga = Saga::define(name, 1);
        saga.concurrency(1);
        call(&mut saga, child);
        saga.build().unwrap()
    };
    let two = nest("two", &leaf);
    let three = nest("three", &two);
    let four = nest("four", &three);
    let store = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(start(&sagas, &four).await);
    }
    let policy = RunnerPolicy::default().concurrency(1);
    let runner = sagas.runner().policy(policy);
    let runner = runner.saga(&four).saga(&three).saga(&two).saga(&leaf);
    let runner = runner.build().unwrap();
    runner.run_until(tokio::time::sleep(20 * SOON)).await;
    for id in ids {
        assert_eq!(state(&sagas, id).await, State::Completed);
    }
    assert_eq!(world.log(3 * CHILD).len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_undone_turns_its_parent_back_with_its_reason() {
    let world = World::default();
    let shipping = shipping(&world);
    let order = order(&world, &shipping);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &order).await;
    world.script(CHILD, "y", &[Act::Refused]);
    live(&sagas, &order, &shipping, SOON).await;
    let saga = sagas.get(id).await.unwrap();
    assert_eq!(saga.state, State::Undone);
    assert_eq!(saga.reason.as_deref(), Some("REFUSED"));
    let history = sagas.history(&order, id).await.unwrap();
    assert_eq!(history.steps[1].state, StepState::Failed);
    assert_eq!(history.steps[1].code.as_deref(), Some("REFUSED"));
    assert_eq!(undone(&world, 0), ["a"]);
    assert_eq!(undone(&world, CHILD), ["x"]);
    let child = child(&sagas, id).await;
    assert_eq!(state(&sagas, child).await, State::Undone);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_was_completed_is_undone_with_its_parent_its_last_step_first() {
    let world = World::default();
    let shipping = shipping(&world);
    let order = order(&world, &shipping);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &order).await;
    world.script(0, "b", &[Act::Refused]);
    live(&sagas, &order, &shipping, SOON).await;
    assert_eq!(state(&sagas, id).await, State::Undone);
    assert_eq!(undone(&world, CHILD), ["y", "x"]);
    assert_eq!(undone(&world, 0), ["a"]);
    let child = sagas.get(child(&sagas, id).await).await.unwrap();
    assert_eq!(child.state, State::Undone);
    assert_eq!(child.reason.as_deref(), Some("REFUSED"), "its parent's");
    let history = sagas.history(&order, id).await.unwrap();
    assert_eq!(history.steps[1].state, StepState::Undone);
}

/// A branch with a child that waits for hours, beside one that is refused a little later.
fn forked(world: &World, child: &Saga<u64, u64>) -> Saga<u64> {
    let mut saga = Saga::define("forked", 1);
    saga.fork(|fork| {
        fork.branch(|branch| {
            branch.step("a", step(world, "a"));
            call(branch, child);
        });
        fork.branch(|branch| {
            branch.sleep("nap", SOON);
            branch.step("b", step(world, "b"));
        });
    });
    saga.step("c", step(world, "c"));
    saga.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_child_under_way_is_called_back_when_another_branch_fails() {
    let world = World::default();
    let waiting = waiting(&world);
    let forked = forked(&world, &waiting);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &forked).await;
    world.script(0, "b", &[Act::Refused]);
    live(&sagas, &forked, &waiting, 3 * SOON).await;
    assert_eq!(state(&sagas, id).await, State::Undone);
    assert_eq!(undone(&world, CHILD), ["x"]);
    assert_eq!(undone(&world, 0), ["a"]);
    // And with its word it is joined.
    let id = start(&sagas, &forked).await;
    live(&sagas, &forked, &waiting, SOON / 2).await;
    let child = child(&sagas, id).await;
    assert!(sagas.signal(child, "word", "1", &7_u64).await.unwrap());
    live(&sagas, &forked, &waiting, 2 * SOON).await;
    assert_eq!(state(&sagas, id).await, State::Completed);
    assert!(world.log(0).ends_with(&[Deed::Run("b"), Deed::Run("c")]));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_nobody_knows_is_left_alone_and_waited_for_both_ways() {
    let world = World::default();
    let shipping = shipping(&world);
    let order = order(&world, &shipping);
    let store = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let (forth, back) = (start(&sagas, &order).await, start(&sagas, &order).await);
    live(&sagas, &order, &order, LONG - SOON).await;
    for id in [forth, back] {
        let history = sagas.history(&order, id).await.unwrap();
        assert_eq!(history.steps[1].state, StepState::Calling);
        let record = store.read(id).await.unwrap().unwrap();
        assert!(!record.held && record.due_at > record.now, "{record:?}");
        assert_eq!(state(&sagas, child(&sagas, id).await).await, State::Running);
    }
    sagas.cancel(&order, back, by()).await.unwrap();
    live(&sagas, &order, &order, LONG - SOON).await;
    let history = sagas.history(&order, back).await.unwrap();
    assert_eq!(history.saga.state, State::Undoing, "it waits for its child");
    assert_eq!(history.steps[1].state, StepState::Undoing);
    assert_eq!(undone(&world, 0), [""; 0], "the last step first");
    // Somebody else has it, in another process: nobody of this one is told.
    let others = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let theirs = others.runner().saga(&shipping).build().unwrap();
    let ours = sagas.runner().saga(&order).build().unwrap();
    tokio::join!(
        theirs.run_until(tokio::time::sleep(SOON)),
        ours.run_until(tokio::time::sleep(SOON))
    );
    assert_eq!(state(&sagas, forth).await, State::Completed);
    assert_eq!(state(&sagas, back).await, State::Undone);
    assert_eq!(undone(&world, CHILD), [""; 0], "it had not begun");
    assert_eq!(undone(&world, 0), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_needs_attention_is_waited_for_and_leads_its_parent_on_when_helped() {
    let world = World::default();
    // On its way back.
    let shipping = shipping(&world);
    let order = order(&world, &shipping);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &order).await;
    world.script(CHILD, "y", &[Act::Refused]);
    world.undo_script(CHILD, "x", &[Act::Refused]);
    live(&sagas, &order, &shipping, LONG - SOON).await;
    let stuck = sagas.children(id).await.unwrap();
    assert_eq!(stuck[0].state, State::NeedsAttention, "visible");
    let history = sagas.history(&order, id).await.unwrap();
    assert_eq!(history.saga.state, State::Running);
    assert_eq!(history.steps[1].state, StepState::Calling);
    assert_eq!(history.steps[1].child, Some(stuck[0].id));
    let skipped = sagas.skip_undo(&shipping, stuck[0].id, "x", by()).await;
    skipped.unwrap();
    live(&sagas, &order, &shipping, SOON).await;
    assert_eq!(state(&sagas, id).await, State::Undone);
    // On its way forward, behind its pivot.
    let decided = decided(&world);
    let mut saga = Saga::define("deciding", 1);
    saga.step("a", step(&world, "a"));
    call(&mut saga, &decided);
    saga.pivot();
    let saga = saga.build().unwrap();
    let id = start(&sagas, &saga).await;
    world.script(CHILD, "y", &[Act::Refused]);
    live(&sagas, &saga, &decided, LONG - SOON).await;
    let stuck = child(&sagas, id).await;
    assert_eq!(state(&sagas, stuck).await, State::NeedsAttention);
    assert_eq!(state(&sagas, id).await, State::Running);
    let forced = sagas.force(&decided, stuck, "y", &"by hand", by()).await;
    forced.unwrap();
    live(&sagas, &saga, &decided, SOON).await;
    assert_eq!(state(&sagas, id).await, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_late_is_called_back_and_behind_the_pivot_waited_for_anew() {
    let world = World::default();
    let waiting = waiting(&world);
    let define = |pivot: bool| {
        let mut saga = Saga::define(if pivot { "behind" } else { "before" }, 1);
        saga.step("a", step(&world, "a"));
        if pivot {
            saga.pivot();
        }
        saga.child_within("ship", &waiting, LONG, |it| Ok(it.input() + CHILD));
        saga.build().unwrap()
    };
    let sagas = Sagas::new(MemoryStore::new());
    let before = define(false);
    let id = start(&sagas, &before).await;
    live(&sagas, &before, &waiting, LONG - SOON).await;
    assert_eq!(state(&sagas, id).await, State::Running);
    live(&sagas, &before, &waiting, 2 * SOON).await;
    let saga = sagas.get(id).await.unwrap();
    assert_eq!(saga.state, State::Undone);
    assert_eq!(saga.reason.as_deref(), Some("CHILD_TIMED_OUT"));
    assert_eq!(
        (undone(&world, CHILD), undone(&world, 0)),
        (vec!["x"], vec!["a"])
    );

    let behind = define(true);
    let id = start(&sagas, &behind).await;
    live(&sagas, &behind, &waiting, LONG + SOON).await;
    let saga = sagas.get(id).await.unwrap();
    assert_eq!(saga.state, State::NeedsAttention);
    assert_eq!(saga.reason.as_deref(), Some("CHILD_TIMED_OUT"));
    let late = child(&sagas, id).await;
    assert_eq!(state(&sagas, late).await, State::Running);
    sagas.resume(&behind, id, by()).await.unwrap();
    live(&sagas, &behind, &waiting, SOON).await;
    assert_eq!(child(&sagas, id).await, late, "the same");
    sagas.signal(late, "word", "1", &7_u64).await.unwrap();
    live(&sagas, &behind, &waiting, SOON).await;
    assert_eq!(state(&sagas, id).await, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_ended_in_time_counts_however_late_somebody_looks() {
    let world = World::default();
    let waiting = waiting(&world);
    let mut saga = Saga::define("looks", 1);
    saga.child_within("ship", &waiting, LONG, |it| Ok(it.input() + CHILD));
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    for (word, expected) in [
        (LONG - SOON, State::Completed),
        (LONG + SOON, State::Undone),
    ] {
        let id = start(&sagas, &saga).await;
        live(&sagas, &saga, &waiting, SOON).await;
        let child = child(&sagas, id).await;
        tokio::time::sleep(word - 2 * SOON).await;
        sagas.signal(child, "word", "1", &7_u64).await.unwrap();
        // Only the child is driven now; its parent is looked at an hour after it.
        live(&sagas, &waiting, &waiting, SOON).await;
        assert_eq!(state(&sagas, child).await, State::Completed);
        tokio::time::sleep(LONG).await;
        live(&sagas, &saga, &waiting, SOON).await;
        assert_eq!(state(&sagas, id).await, expected);
        let also = match expected {
            State::Completed => State::Completed,
            _ => State::Undone,
        };
        assert_eq!(state(&sagas, child).await, also, "one end for both");
    }
}

#[tokio::test(start_paused = true)]
async fn another_child_is_called_only_once_the_last_one_is_undone() {
    let world = World::default();
    let shipping = shipping(&world);
    let mut saga = Saga::define("again", 1);
    saga.step("a", step(&world, "a"));
    saga.pivot();
    call(&mut saga, &shipping);
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    world.script(CHILD, "y", &[Act::Refused]);
    live(&sagas, &saga, &shipping, SOON).await;
    assert_eq!(state(&sagas, id).await, State::NeedsAttention);
    let first = child(&sagas, id).await;
    sagas.resume(&saga, id, by()).await.unwrap();
    live(&sagas, &saga, &shipping, SOON).await;
    assert_eq!(state(&sagas, id).await, State::Completed);
    let children = sagas.children(id).await.unwrap();
    let states: Vec<_> = children.iter().map(|it| it.state).collect();
    assert_eq!(children.len(), 2);
    assert!(states.contains(&State::Undone) && states.contains(&State::Completed));
    let history = sagas.history(&saga, id).await.unwrap();
    assert_ne!(history.steps[1].child, Some(first));
    assert_eq!(history.steps[1].attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_the_pivot_and_has_one_decides_for_both() {
    let world = World::default();
    let mut child_saga = Saga::define("deciding", 1);
    child_saga.step("x", step(&world, "x"));
    let _: Output<u64> = child_saga.wait_or_turn_back("word", 12 * LONG);
    child_saga.pivot();
    child_saga.step("y", step(&world, "y"));
    let child_saga = child_saga.build().unwrap();
    let mut saga = Saga::define("parent", 1);
    saga.step("a", step(&world, "a"));
    call(&mut saga, &child_saga);
    saga.pivot();
    saga.step("b", step(&world, "b"));
    saga.forward_within(SOON);
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    // Long behind the deadline of its way forward it is still there.
    live(&sagas, &saga, &child_saga, LONG - SOON).await;
    assert_eq!(state(&sagas, id).await, State::Running);
    let refused = sagas.cancel(&saga, id, by()).await.unwrap_err();
    assert!(matches!(refused, SagaError::WrongState { .. }));
    let called = child(&sagas, id).await;
    sagas.signal(called, "word", "1", &7_u64).await.unwrap();
    live(&sagas, &saga, &child_saga, SOON).await;
    assert_eq!(state(&sagas, id).await, State::Completed);
    // The child may be cancelled as long as it has not passed its own.
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, &child_saga, SOON / 2).await;
    let called = child(&sagas, id).await;
    sagas.cancel(&child_saga, called, by()).await.unwrap();
    live(&sagas, &saga, &child_saga, SOON).await;
    let saga = sagas.get(id).await.unwrap();
    assert_eq!(saga.state, State::Undone);
    assert_eq!(saga.reason.as_deref(), Some("CANCELLED"));
}

#[tokio::test(start_paused = true)]
async fn what_a_child_cannot_be_given_or_does_not_return_parks_its_parent() {
    let world = World::default();
    let shipping = shipping(&world);
    let define = |name: &str, input: fn(&u64) -> Result<u64, OutputError>| {
        let mut saga = Saga::define(name, 1);
        saga.step("a", step(&world, "a"));
        saga.child("ship", &shipping, move |it| input(it.input()));
        saga.step("b", step(&world, "b"));
        saga.build().unwrap()
    };
    let sagas = Sagas::new(MemoryStore::new());
    let panics = define("panics", |_| std::panic::resume_unwind(Box::new("planted")));
    let fails = define("fails", |_| Err(OutputError::NotDone));
    for (number, saga) in [(0, &panics), (1, &fails)] {
        let started = sagas.start(saga, &number, StartOptions::new()).await;
        let id = started.unwrap().id();
        live(&sagas, saga, &shipping, SOON).await;
        let parked = sagas.get(id).await.unwrap();
        assert_eq!(parked.state, State::NeedsAttention);
        assert_eq!(parked.reason.as_deref(), Some("CHILD"));
        assert!(sagas.children(id).await.unwrap().is_empty());
        let forced = sagas.force(saga, id, "ship", &"by hand", by()).await;
        forced.unwrap();
        // There is no child that could be undone.
        world.script(number, "b", &[Act::Refused]);
        live(&sagas, saga, &shipping, SOON).await;
        assert_eq!(state(&sagas, id).await, State::Undone);
    }
    // It returns a text; its parent has been told that it is a number.
    let mut numbers = Saga::define("shipping", 1);
    numbers.step("x", step(&world, "x"));
    let y = numbers.wait_or_turn_back::<u64>("y", SOON);
    let numbers = numbers.build_returning(y).unwrap();
    let mut saga = Saga::define("unfit", 1);
    call(&mut saga, &numbers);
    saga.step("b", step(&world, "b"));
    let saga = saga.build().unwrap();
    let started = sagas.start(&saga, &2, StartOptions::new()).await;
    let id = started.unwrap().id();
    live(&sagas, &saga, &numbers, SOON / 2).await;
    let called = child(&sagas, id).await;
    let sent = sagas.signal(called, "y", "1", &7_u64).await;
    assert!(sent.unwrap());
    live(&sagas, &saga, &numbers, SOON).await;
    assert_eq!(state(&sagas, id).await, State::Completed);
}

#[test]
fn children_that_could_not_be_undone_or_are_nested_too_deep_are_refused() {
    let world = World::default();
    let decided = decided(&world);
    let refused = |saga: SagaBuilder<u64>| saga.build().unwrap_err();
    let pivot = DefinitionError::ChildPivot {
        step: "ship".to_owned(),
    };
    // Before the pivot, without one, and beside others in the fork that is the pivot.
    let mut saga = Saga::define("parent", 1);
    call(&mut saga, &decided);
    saga.step("a", step(&world, "a"));
    saga.pivot();
    assert_eq!(refused(saga), pivot);
    let mut saga = Saga::define("parent", 1);
    call(&mut saga, &decided);
    assert_eq!(refused(saga), pivot);
    let mut saga = Saga::define("parent", 1);
    saga.fork(|fork| {
        fork.branch(|branch| branch.step("a", step(&world, "a")));
        fork.branch(|branch| call(branch, &decided));
    });
    saga.pivot();
    assert_eq!(refused(saga), pivot);
    let mut saga = Saga::define("parent", 1);
    saga.child_within("ship", &decided, SOON, |it| Ok(*it.input()));
    saga.pivot();
    let timed = DefinitionError::ChildPivotTimed {
        step: "ship".to_owned(),
    };
    assert_eq!(refused(saga), timed);
    // A pivot at the very end is one too.
    let mut last = Saga::define("last", 1);
    last.step("x", step(&world, "x"));
    last.pivot();
    let last = last.build().unwrap();
    let mut saga = Saga::define("parent", 1);
    call(&mut saga, &last);
    saga.step("a", step(&world, "a"));
    assert_eq!(refused(saga), pivot);
    // As the pivot, and behind it, also in branches.
    let mut saga = Saga::define("parent", 1);
    saga.step("a", step(&world, "a"));
    call(&mut saga, &decided);
    saga.pivot();
    saga.fork(|fork| {
        fork.branch(|branch| branch.child("one", &decided, |it| Ok(*it.input())));
        fork.branch(|branch| branch.child_within("two", &decided, SOON, |it| Ok(*it.input())));
    });
    saga.build().unwrap();
    // Eight, and one more.
    let mut nested = last;
    for depth in 2..=9 {
        let mut saga = Saga::define("nested", depth);
        saga.step("a", step(&world, "a"));
        saga.pivot();
        call(&mut saga, &nested);
        let built = saga.build();
        if depth == 9 {
            assert!(matches!(built, Err(DefinitionError::Depth { .. })));
            break;
        }
        nested = built.unwrap();
    }
    let mut one = Saga::<u64>::define("one", 1);
    let foreign = one.step("a", step(&world, "a"));
    let mut other = Saga::<u64>::define("other", 1);
    other.step("a", step(&world, "a"));
    let foreign = other.build_returning(foreign).unwrap_err();
    assert_eq!(foreign, DefinitionError::Returns);
}

/// A child that ends while its parent waits for a signal that was sent before: the look at the child
/// is no look for the signal.
#[tokio::test(start_paused = true)]
async fn a_signal_that_came_while_a_child_was_waited_for_is_not_lost() {
    let world = World::default();
    let shipping = shipping(&world);
    let mut saga = Saga::define("told", 1);
    call(&mut saga, &shipping);
    let _: Output<u64> = saga.wait_or_turn_back("word", LONG);
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    assert!(sagas.signal(id, "word", "1", &7_u64).await.unwrap());
    live(&sagas, &saga, &shipping, SOON).await;
    assert_eq!(state(&sagas, id).await, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_child_is_pruned_behind_its_parent_and_never_before() {
    let world = World::default();
    let shipping = shipping(&world);
    let mut saga = Saga::define("patient", 1);
    call(&mut saga, &shipping);
    let _: Output<u64> = saga.wait_or_turn_back("word", LONG);
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, &shipping, SOON).await;
    let child = child(&sagas, id).await;
    assert_eq!(state(&sagas, child).await, State::Completed);
    tokio::time::sleep(LONG / 2).await;
    assert_eq!(sagas.prune(SOON, 10).await.unwrap(), 0);
    // No word comes, so it is turned back, and its child undone, hours after that had ended.
    live(&sagas, &saga, &shipping, LONG - SOON).await;
    assert_eq!(state(&sagas, id).await, State::Undone);
    assert_eq!(undone(&world, CHILD), ["y", "x"]);
    tokio::time::sleep(LONG).await;
    let mut pruned = 0;
    for _ in 0..2 {
        pruned += sagas.prune(SOON, 10).await.unwrap();
    }
    assert_eq!(pruned, 2);
}

#[test]
fn a_parent_and_its_children_stand_every_trouble() {
    let tally = buttress_testkit::tally::suite("SG1 SG2 SG4 X4");
    for forked in [false, true] {
        let world = World::default();
        let make = || {
            let shipping = shipping(&world);
            let mut saga = Saga::define("order", 1);
            saga.step("a", step(&world, "a"));
            if forked {
                saga.fork(|fork| {
                    fork.branch(|branch| call(branch, &shipping));
                    fork.branch(|branch| branch.step("b", step(&world, "b")));
                });
            } else {
                call(&mut saga, &shipping);
                saga.step("b", step(&world, "b"));
            }
            saga.pivot();
            let mut last = Saga::define("last", 1);
            last.step("z", step(&world, "z"));
            let last = last.build().unwrap();
            saga.child("last", &last, |it| Ok(it.input() + 2 * CHILD));
            (saga.build().unwrap(), 0)
        };
        let runs = Harness::new(make).run(|outcome, _| {
            let there = world.count();
            let expected = match outcome.state {
                State::Completed => 5,
                State::Undone => 0,
                // The last child is refused, and undone, behind the pivot.
                State::NeedsAttention => 4,
                _ => usize::MAX,
            };
            assert_eq!(there, expected, "{outcome:?}");
            world.clear();
        });
        let runs = runs.unwrap();
        assert!(runs > 100, "{runs}");
        tally.faults(runs);
    }
}

/// On a real store: done, and undone after it was done.
async fn both_ways(store: Arc<dyn Store>) {
    let world = World::default();
    let shipping = shipping(&world);
    let order = order(&world, &shipping);
    let sagas = Sagas::shared(Arc::clone(&store));
    let policy = RunnerPolicy::default().poll(Duration::from_millis(50));
    let runner = sagas.runner().saga(&order).saga(&shipping).policy(policy);
    let done = async {
        for (number, expected) in [(0, State::Completed), (1, State::Undone)] {
            if expected == State::Undone {
                world.script(number, "b", &[Act::Refused]);
            }
            let started = sagas.start(&order, &number, StartOptions::new()).await;
            let id = started.unwrap().id();
            buttress_testkit::eventually::eventually("it rests", 20 * SOON, async || {
                (!state(&sagas, id).await.is_active()).then_some(())
            })
            .await;
            assert_eq!(state(&sagas, id).await, expected);
            assert_eq!(state(&sagas, child(&sagas, id).await).await, expected);
        }
    };
    let runner = runner.build().unwrap();
    tokio::select! {
        () = done => {}
        () = runner.run_until(std::future::pending()) => {}
    }
    assert_eq!(undone(&world, 1 + CHILD), ["y", "x"]);
    assert_eq!(undone(&world, 1), ["a"]);
    assert_eq!(world.log(CHILD).len(), 2);
}

#[tokio::test]
async fn children_are_done_and_undone_on_each_database() {
    both_ways(stand::sqlite().await.unwrap().store).await;
    if let Some(stand) = stand::postgres().await.unwrap() {
        both_ways(Arc::clone(&stand.store)).await;
        stand.close().await.unwrap();
    }
    if let Some(stand) = stand::mysql().await.unwrap() {
        both_ways(Arc::clone(&stand.store)).await;
        stand.close().await.unwrap();
    }
}
