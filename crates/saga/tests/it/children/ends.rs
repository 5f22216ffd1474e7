//! Children: in time or late, with and without a way back, and definitions that are refused.

use buttress_saga::{
    ChildContext, DefinitionError, Output, OutputError, Saga, SagaBuilder, SagaError, Sagas,
    StartOptions, State, StepState, store::MemoryStore,
};

use super::{
    CHILD, LONG, SOON, by, call, child, decided, live, shipping, start, state, step, undone,
    waiting,
};
use crate::world::{Act, World};

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
async fn a_child_that_ended_before_its_parent_was_sent_on_is_not_waited_for() {
    let world = World::default();
    let waiting = waiting(&world);
    for beside in [false, true] {
        let mut saga = Saga::define(if beside { "beside" } else { "alone" }, 1);
        saga.step("a", step(&world, "a"));
        saga.pivot();
        saga.fork(|fork| {
            let within = |it: &ChildContext<'_, u64>| Ok(it.input() + CHILD);
            fork.branch(|branch| branch.child_within("ship", &waiting, SOON, within));
            // Another child is waited for all the while, and looked at.
            fork.branch(|branch| beside.then(|| branch.child("other", &waiting, within)));
        });
        let saga = saga.build().unwrap();
        let sagas = Sagas::new(MemoryStore::new());
        let id = start(&sagas, &saga).await;
        live(&sagas, &saga, &waiting, 2 * SOON).await;
        let stuck = sagas.get(id).await.unwrap();
        assert_eq!(stuck.reason.as_deref(), Some("CHILD_TIMED_OUT"));
        let history = sagas.history(&saga, id).await.unwrap();
        let late = history.steps[1].child.unwrap();
        sagas.signal(late, "word", "1", &7_u64).await.unwrap();
        live(&sagas, &saga, &waiting, SOON).await;
        assert_eq!(state(&sagas, late).await, State::Completed);
        sagas.resume(&saga, id, by()).await.unwrap();
        live(&sagas, &saga, &waiting, SOON / 2).await;
        let history = sagas.history(&saga, id).await.unwrap();
        assert_eq!(history.steps[1].state, StepState::Done, "{beside}");
        assert_eq!(history.steps[1].child, Some(late), "the same");
    }
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

/// Whether a child under way may be turned back is told by its parent's definition.
#[test]
fn a_child_that_gets_a_pivot_makes_another_shape_of_its_parent_and_another_version_does_not() {
    let world = World::default();
    let shape = |version: u32, pivot: bool| {
        let mut child = Saga::define("child", version);
        child.step("x", step(&world, "x"));
        if pivot {
            child.pivot();
        }
        let child: Saga<u64> = child.build().unwrap();
        let mut saga = Saga::define("parent", 1);
        call(&mut saga, &child);
        saga.pivot();
        saga.build().unwrap().key().shape
    };
    assert_eq!(shape(1, false), shape(2, false));
    assert_ne!(shape(1, false), shape(2, true));
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
