//! Children: a step that is a saga itself is done, fails and is undone like any other, whoever dies.

mod alone;
mod ends;
mod tormented;

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    By, Context, EventKind, Output, RunnerPolicy, Saga, SagaBuilder, SagaId, Sagas, StartOptions,
    State, Step, StepError, StepState,
    store::{MemoryStore, Store},
};

use crate::{
    shaky::{Fate, Shaky},
    world::{Act, Deed, Scripted, World},
};

const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(7200);

fn step(world: &World, name: &'static str) -> Scripted {
    Scripted {
        name,
        world: world.clone(),
    }
}

/// Children are started with their parent's number and this.
const CHILD: u64 = 1000;

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

/// The child, and then a word that is waited for.
fn patient(child: &Saga<u64, String>) -> Saga<u64, ()> {
    let mut saga = Saga::define("patient", 1);
    call(&mut saga, child);
    let _: Output<u64> = saga.wait_or_turn_back("word", LONG);
    saga.build().unwrap()
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
async fn sg_01_a_child_that_was_completed_is_undone_with_its_parent_its_last_step_first() {
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

/// A child that ends while its parent waits for a signal that was sent before: the look at the child
/// is no look for the signal.
#[tokio::test(start_paused = true)]
async fn a_signal_that_came_while_a_child_was_waited_for_is_not_lost() {
    let world = World::default();
    let shipping = shipping(&world);
    let saga = patient(&shipping);
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
    let saga = patient(&shipping);
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
