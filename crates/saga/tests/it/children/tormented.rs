//! Parents and children that die at every point, and on each database.

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    RunnerPolicy, Saga, Sagas, StartOptions, State, store::Store, testing::Harness,
};

use super::{CHILD, SOON, call, child, order, shipping, state, step, undone};
use crate::{
    stand,
    world::{Act, World},
};

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
