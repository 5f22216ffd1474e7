//! Graphs of steps: those that are none are refused, the others are done in their order.

use buttress_saga::{DefinitionError, Saga, SagaBuilder, Sagas, State, store::MemoryStore};

use crate::{
    forks::{SOON, live, start, step},
    world::{Act, Deed, World},
};

#[tokio::test(start_paused = true)]
async fn any_graph_is_done_in_its_order() {
    let world = World::default();
    let mut saga = Saga::define("graph", 1);
    let add = |saga: &mut SagaBuilder<u64>, name, after: &[&str]| {
        saga.after(after.iter().copied());
        saga.step(name, step(&world, name));
    };
    add(&mut saga, "a", &[]);
    add(&mut saga, "b", &[]);
    add(&mut saga, "c", &["a"]);
    add(&mut saga, "d", &["a", "b"]);
    add(&mut saga, "e", &["c"]);
    add(&mut saga, "f", &["d", "e"]);
    saga.pivot();
    saga.step("g", step(&world, "g"));
    let saga = saga.build().unwrap();
    // c is slow: d does not wait for it, and f does.
    world.script(0, "c", &[Act::NotDone, Act::NotDone]);
    let sagas = Sagas::new(MemoryStore::new());
    let id = start(&sagas, &saga).await;
    live(&sagas, &saga, SOON).await;
    assert_eq!(sagas.get(id).await.unwrap().state, State::Completed);
    let log = world.log(0);
    let first = |name| log.iter().position(|it| *it == Deed::Run(name)).unwrap();
    let last = |name| log.iter().rposition(|it| *it == Deed::Run(name)).unwrap();
    assert!(first("d") < last("c"), "{log:?}");
    for (before, after) in [
        ("a", "c"),
        ("a", "d"),
        ("b", "d"),
        ("c", "e"),
        ("e", "f"),
        ("d", "f"),
        ("f", "g"),
    ] {
        assert!(last(before) < first(after), "{before} {after}: {log:?}");
    }
}

#[test]
fn what_cannot_be_a_graph_is_refused_and_its_shape_is_its_own() {
    let world = World::default();
    let built = |make: &dyn Fn(&mut SagaBuilder<u64>)| {
        let mut saga = Saga::define("built", 1);
        make(&mut saga);
        saga.build()
    };
    let add = |saga: &mut SagaBuilder<u64>, name| {
        saga.step(name, step(&world, name));
    };
    let refused = built(&|saga| {
        add(saga, "a");
        saga.after(["a", "later"]);
        add(saga, "b");
        add(saga, "later");
    });
    let name = "later".to_owned();
    assert_eq!(refused.unwrap_err(), DefinitionError::After { name });
    // A pivot in a branch, one beside a step that comes later, and one beside an earlier one.
    for first in [true, false] {
        let refused = built(&|saga| {
            saga.fork(|fork| {
                fork.branch(|branch| {
                    add(branch, "a");
                    if first {
                        branch.pivot();
                    }
                });
                fork.branch(|branch| {
                    add(branch, "b");
                    if !first {
                        branch.pivot();
                    }
                });
            });
            add(saga, "c");
        });
        let name = if first { "b" } else { "a" }.to_owned();
        assert_eq!(refused.unwrap_err(), DefinitionError::Pivot { name });
    }
    let shape = |make: &dyn Fn(&mut SagaBuilder<u64>)| built(make).unwrap().key().shape;
    let row = shape(&|saga| ["a", "b", "c"].into_iter().for_each(|it| add(saga, it)));
    let one_branch = shape(&|saga| {
        add(saga, "a");
        saga.fork(|fork| fork.branch(|branch| add(branch, "b")));
        add(saga, "c");
    });
    assert_eq!(row, one_branch, "a row is a row");
    let forked = shape(&|saga| {
        saga.fork(|fork| {
            fork.branch(|branch| add(branch, "a"));
            fork.branch(|branch| add(branch, "b"));
            fork.branch(|_| {});
        });
        add(saga, "c");
    });
    let nested = shape(&|saga| {
        saga.fork(|fork| {
            fork.branch(|branch| {
                branch.fork(|inner| inner.branch(|branch| add(branch, "a")));
            });
            fork.branch(|branch| add(branch, "b"));
        });
        add(saga, "c");
    });
    assert_eq!(forked, nested);
    let loose = shape(&|saga| {
        add(saga, "a");
        saga.after([]);
        add(saga, "b");
        add(saga, "c");
    });
    let unlike = [row, forked, loose];
    for (place, one) in unlike.iter().enumerate() {
        assert!(
            !unlike[..place].contains(one),
            "another graph, another shape"
        );
    }
    // Directly behind a fork the pivot is the end of all branches.
    let joined = built(&|saga| {
        saga.fork(|fork| {
            fork.branch(|branch| add(branch, "a"));
            fork.branch(|branch| add(branch, "b"));
        });
        saga.pivot();
        add(saga, "c");
    });
    assert!(joined.is_ok());
}
