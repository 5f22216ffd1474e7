//! Workers that die: whose fault it is, and what it costs.

use std::{future::pending, sync::Arc, time::Duration};

use buttress_saga::{
    Context, RunnerPolicy, Saga, Sagas, StartOptions, State, Step, StepError,
    store::{MemoryStore, Store},
};
use tokio::sync::Notify;

use crate::{
    calls::order,
    shaky::{Fate, Shaky},
    world::World,
};

const POISON: u64 = 3;

/// Kills its worker when it is given the poison.
struct Deadly {
    death: Arc<Notify>,
}

impl Step for Deadly {
    type Input = u64;
    type Output = ();

    async fn run(&self, context: &Context<'_, u64>) -> Result<(), StepError> {
        if *context.input() == POISON {
            self.death.notify_one();
            pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_kills_its_workers_is_parked_and_its_neighbours_are_not() {
    let tally = buttress_testkit::tally::suite("SG3");
    let death = Arc::new(Notify::new());
    let mut saga = Saga::define("deadly", 1);
    for name in ["one", "two"] {
        let death = Arc::clone(&death);
        saga.step(name, Deadly { death });
    }
    let saga = saga.build().unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(store);
    let mut ids = Vec::new();
    for number in 0..8 {
        let started = sagas.start(&saga, &number, StartOptions::new()).await;
        ids.push(started.unwrap().id());
    }
    let mut deaths = 0;
    loop {
        let policy = RunnerPolicy::default().lone_lapses(3);
        let runner = sagas.runner().saga(&saga).policy(policy).build().unwrap();
        tokio::select! {
            () = death.notified() => deaths += 1,
            () = runner.run_until(tokio::time::sleep(Duration::from_secs(60))) => break,
        }
        assert!(deaths < 20, "it is never parked");
    }
    for (number, id) in (0..).zip(ids) {
        let saga = sagas.get(id).await.unwrap();
        if number == POISON {
            assert_eq!(saga.state, State::NeedsAttention);
            assert_eq!(saga.reason.as_deref(), Some("CRASH_LOOP"));
        } else {
            assert_eq!(saga.state, State::Completed, "{number} is innocent");
        }
    }
    assert_eq!(deaths, 4, "one in company, and three alone");
    tally.kills(deaths);
}

#[tokio::test(start_paused = true)]
async fn n_steps_are_written_by_n_plus_one_commits() {
    let world = World::default();
    let saga = order(&world);
    let store = Arc::new(Shaky::new(Arc::new(MemoryStore::new()), |_| Fate::Well));
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let started = sagas.start(&saga, &1, StartOptions::new()).await.unwrap();
    let runner = sagas.runner().saga(&saga).build().unwrap();
    assert_eq!(runner.run_once().await.unwrap(), 1);
    let ended = sagas.get(started.id()).await.unwrap();
    assert_eq!(ended.state, State::Completed);
    let appends = store.appends.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(appends, 5, "four steps");
}
