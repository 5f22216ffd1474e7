//! Runners: what they leave alone, how many they drive, how they stop.

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    RunnerPolicy, Saga, SagaError, Sagas, StartOptions, State, StepPolicy, store::MemoryStore,
};

use crate::{
    calls::{Stand, order},
    world::{Act, Scripted, Stopwatch, World},
};

#[tokio::test(start_paused = true)]
async fn a_stopped_runner_gives_its_claims_back_and_drops_what_does_not_end() {
    let tally = buttress_testkit::tally::suite("X13");
    let stand = Stand::new();
    stand.world.script(1, "charge", &[Act::Hang]);
    let id = stand.start(1).await;
    let start = Stopwatch::start();
    let policy = RunnerPolicy::default().grace(Duration::from_secs(2));
    let runner = stand.sagas.runner().saga(&stand.saga).policy(policy);
    let runner = runner.build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(1)))
        .await;
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    stand.drive(1).await;
    assert_eq!(
        stand.state(id).await.0,
        State::Completed,
        "at once, not a lease later"
    );
    let history = stand.sagas.history(&stand.saga, id).await.unwrap();
    assert_eq!(history.steps[1].attempts, 1, "a stop is no verdict");
    tally.operations(1);
}

/// Each of them has a definition of its own, and nobody polls for an hour.
#[tokio::test(start_paused = true)]
async fn a_start_wakes_the_runner_that_has_its_definition_whoever_else_waits() {
    let world = World::default();
    let define = |name: &'static str| {
        let mut saga = Saga::define(name, 1);
        let world = world.clone();
        saga.step("a", Scripted { name: "a", world });
        saga.build().unwrap()
    };
    let kinds = ["one", "two", "three"].map(define);
    let sagas = Sagas::new(MemoryStore::new());
    let policy = RunnerPolicy::default().poll(Duration::from_secs(3600));
    let runners = kinds.each_ref().map(|saga| {
        let runner = sagas.runner().saga(saga).policy(policy.clone());
        let runner = runner.build().unwrap();
        runner.run_until(std::future::pending())
    });
    let test = async {
        for turn in 0..9_u64 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let saga = &kinds[usize::try_from(turn * 2 % 3).unwrap()];
            let started = sagas.start(saga, &turn, StartOptions::new()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let state = sagas.get(started.unwrap().id()).await.unwrap().state;
            assert_eq!(state, State::Completed, "{turn}");
        }
    };
    tokio::select! {
        () = test => {}
        _ = futures_util::future::join_all(runners) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_definition_of_another_shape_is_never_driven_and_is_reported() {
    let tally = buttress_testkit::tally::suite("SG8");
    let stand = Stand::new();
    let id = stand.start(1).await;
    let mut changed = Saga::define("order", 1);
    let (name, world) = ("reserve", stand.world.clone());
    changed.step("renamed", Scripted { name, world });
    let changed = changed.build().unwrap();
    let runner = stand.sagas.runner().saga(&changed).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(30)))
        .await;
    assert!(stand.world.log(1).is_empty());
    let census = stand.sagas.census().await.unwrap();
    assert!(census[0].overdue >= Duration::from_secs(30), "and it shows");
    let wrong = stand.sagas.history(&changed, id).await;
    assert!(matches!(wrong, Err(SagaError::OtherDefinition)));
    let runner = stand.sagas.runner().saga(&changed).saga(&stand.saga);
    let runner = runner.build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(2)))
        .await;
    assert_eq!(stand.state(id).await.0, State::Completed);
    tally.operations(1);
}

#[tokio::test(start_paused = true)]
async fn no_more_sagas_of_a_kind_run_at_once_than_it_says() {
    let world = World::default();
    for number in 0..6 {
        world.script(number, "slow", &[Act::Hang]);
    }
    let mut saga = Saga::define("slow", 1);
    let policy = StepPolicy::default().timeout(Duration::from_secs(4));
    let slow = Scripted {
        name: "slow",
        world: world.clone(),
    };
    saga.step_with("slow", slow, policy);
    saga.concurrency(2);
    let saga = saga.build().unwrap();
    let sagas = Sagas::new(MemoryStore::new());
    for number in 0..6 {
        sagas
            .start(&saga, &number, StartOptions::new())
            .await
            .unwrap();
    }
    let runner = sagas.runner().saga(&saga).build().unwrap();
    let look = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begun = (0..6).filter(|number| !world.log(*number).is_empty());
        assert_eq!(begun.count(), 2);
    };
    runner.run_until(look).await;
}

/// Kept here so that the futures of the public API stay what callers need.
#[test]
fn futures_can_be_sent() {
    fn sent(_: impl Future + Send) {}
    let world = World::default();
    let saga = order(&world);
    let sagas = Sagas::shared(Arc::new(MemoryStore::new()));
    sent(sagas.start(&saga, &1, StartOptions::new()));
    let runner = sagas.runner().saga(&saga).build().unwrap();
    sent(runner.run_until(async {}));
}
