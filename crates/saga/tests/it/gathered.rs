//! Several sagas' lines in one commit: what it saves, and that nobody in a batch is spoilt by another.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_saga::{
    RunnerPolicy, Saga, SagaId, Sagas, StartOptions, State,
    store::{MemoryStore, PostgresStore, Store},
};
use buttress_store::LeaseTerms;
use buttress_testkit::{left_out::LeftOut, postgres};
use sqlx::{Connection as _, Executor as _, postgres::PgPoolOptions};

use crate::{
    shaky::{Fate, Shaky},
    stand,
    world::{Deed, Scripted, Stopwatch, World},
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn saga(world: &World) -> Saga<u64> {
    let mut saga = Saga::define("gathered", 1);
    for name in NAMES {
        let world = world.clone();
        saga.step(name, Scripted { name, world });
    }
    saga.build().unwrap()
}

async fn started(sagas: &Sagas, saga: &Saga<u64>, count: u64) -> Vec<SagaId> {
    let mut ids = Vec::new();
    for number in 0..count {
        let started = sagas.start(saga, &number, StartOptions::new()).await;
        ids.push(started.unwrap().id());
    }
    ids
}

/// All are done, each step of each was asked for once, and each journal is what it would be alone.
async fn all_done(sagas: &Sagas, saga: &Saga<u64>, world: &World, ids: &[SagaId]) {
    for (number, id) in (0..).zip(ids) {
        let history = sagas.history(saga, *id).await.unwrap();
        assert_eq!(history.saga.state, State::Completed, "{history:?}");
        assert_eq!(history.lines.len(), 2 * NAMES.len() + 1);
        assert_eq!(world.log(number), NAMES.map(Deed::Run));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_during_a_commit_goes_with_the_next_one() {
    let world = World::default();
    let saga = saga(&world);
    // Each commit takes a moment, so others come meanwhile.
    let slow = |_| Fate::LateBefore(Duration::from_millis(2));
    let store = Shaky::new(Arc::new(MemoryStore::new()), slow).gathering(1);
    let store = Arc::new(store);
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let ids = started(&sagas, &saga, 16).await;
    let runner = sagas.runner().saga(&saga).build().unwrap();
    assert_eq!(runner.run_once().await.unwrap(), 16);
    all_done(&sagas, &saga, &world, &ids).await;
    let (gathered, batches) = (store.gathered.load(Relaxed), store.batches.load(Relaxed));
    let alone = store.appends.load(Relaxed);
    println!("{gathered} writes in {batches} commits, {alone} alone");
    assert_eq!(gathered + alone, 16 * 5, "each once");
    assert!(batches < gathered / 6, "they went one by one");
}

#[tokio::test(start_paused = true)]
async fn who_comes_alone_waits_for_nobody_and_goes_alone() {
    let world = World::default();
    let saga = saga(&world);
    let store = Shaky::new(Arc::new(MemoryStore::new()), |_| Fate::Well).gathering(1);
    let store = Arc::new(store);
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let ids = started(&sagas, &saga, 1).await;
    let clock = Stopwatch::start();
    let runner = sagas.runner().saga(&saga).build().unwrap();
    assert_eq!(runner.run_once().await.unwrap(), 1);
    assert_eq!(clock.elapsed(), Duration::ZERO, "nothing was waited for");
    all_done(&sagas, &saga, &world, &ids).await;
    assert_eq!(store.batches.load(Relaxed), 0);
}

/// The answer to every third commit is lost: those in it look, and go on.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_lost_to_all_in_the_batch_and_costs_no_step() {
    let world = World::default();
    let saga = saga(&world);
    let fate = |number: u64| match number % 3 {
        0 => Fate::AnswerLost,
        1 => Fate::Fails,
        _ => Fate::LateAfter(Duration::from_millis(3)),
    };
    let store = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let ids = started(&sagas, &saga, 40).await;
    let shaky = Sagas::new(Shaky::new(store, fate).gathering(2));
    let policy = RunnerPolicy::default().concurrency(40);
    let runner = shaky.runner().saga(&saga).policy(policy).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(300)))
        .await;
    all_done(&sagas, &saga, &world, &ids).await;
}

/// Somebody cancels one of them while its write waits to be gathered.
#[tokio::test(start_paused = true)]
async fn who_lost_his_claim_in_a_batch_writes_nothing_and_the_others_do() {
    let world = World::default();
    let saga = saga(&world);
    let slow = |_| Fate::LateBefore(Duration::from_millis(10));
    let store = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let ids = started(&sagas, &saga, 16).await;
    let shaky = Arc::new(Shaky::new(store, slow).gathering(1));
    let runner = Sagas::shared(Arc::clone(&shaky) as Arc<dyn Store>);
    let runner = runner.runner().saga(&saga).build().unwrap();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(35)).await;
        let by = buttress_saga::By::new("test", "while it waits");
        sagas.cancel(&saga, ids[7], by).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    };
    runner.run_until(cancel).await;
    assert!(shaky.batches.load(Relaxed) > 0);
    for (number, id) in (0..).zip(&ids) {
        let history = sagas.history(&saga, *id).await.unwrap();
        if number == 7 {
            assert_eq!(history.saga.state, State::Undone, "{history:?}");
            let left = NAMES.iter().filter(|name| world.has(*id, name)).count();
            assert_eq!(left, 0, "{history:?}");
        } else {
            assert_eq!(history.saga.state, State::Completed, "{history:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_whose_row_is_locked_holds_up_no_other_on_postgres() {
    let Some(stand) = stand::postgres().await.unwrap() else {
        return;
    };
    let mut strange = sqlx::PgConnection::connect(stand.database.url())
        .await
        .unwrap();
    let lock = "SELECT id FROM buttress_saga WHERE id = $1 FOR UPDATE";
    locked(&stand.store, &mut strange, lock).await;
    strange.close().await.unwrap();
    stand.close().await.unwrap();
}

/// Locks one of many sagas while all are driven: the others end, and then it does.
async fn locked<C>(store: &Arc<dyn Store>, strange: &mut C, lock: &'static str)
where
    C: sqlx::Connection,
    for<'c> &'c mut C: sqlx::Executor<'c, Database = C::Database>,
    for<'b> &'b [u8]: sqlx::Encode<'b, C::Database> + sqlx::Type<C::Database>,
    <C::Database as sqlx::Database>::Arguments: sqlx::IntoArguments<C::Database>,
{
    let world = World::default();
    let saga = saga(&world);
    let sagas = Sagas::shared(Arc::clone(store));
    let ids = started(&sagas, &saga, 32).await;
    // It is claimed, has done its first step, and cannot write so.
    let (id, act) = (ids[5], crate::world::Act::NotDone);
    world.script(5, "a", &[act]);
    let policy = RunnerPolicy::default().concurrency(32);
    let runner = sagas.runner().saga(&saga).policy(policy).build().unwrap();
    let all = async {
        while world.log(5).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (&mut *strange).execute("BEGIN").await.unwrap();
        let row = sqlx::query(lock).bind(&id.as_bytes()[..]);
        row.execute(&mut *strange).await.unwrap();
        let clock = Stopwatch::start();
        for other in ids.iter().filter(|it| **it != id) {
            while sagas.get(*other).await.unwrap().state.is_active() {
                assert!(clock.elapsed() < Duration::from_secs(4), "it is held up");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let held = sagas.get(id).await.unwrap();
        assert_eq!(
            held.state,
            State::Running,
            "it was locked in time: {held:?}"
        );
        (&mut *strange).execute("ROLLBACK").await.unwrap();
        while sagas.get(id).await.unwrap().state.is_active() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    runner.run_until(all).await;
    for id in &ids {
        let ended = sagas.get(*id).await.unwrap();
        assert_eq!(ended.state, State::Completed);
    }
}

/// Whoever is in a commit when the server dies does not know, looks when it is back, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_under_full_batches_costs_no_saga_and_leaves_no_half_of_one() {
    let _tally = buttress_testkit::tally::suite("X8 SG4");
    let server = match postgres::Server::start() {
        Ok(server) => server,
        Err(postgres::StartError::NotFound(why)) => {
            return LeftOut::new("a server that dies under batches", why.to_string()).register();
        }
        Err(error) => panic!("{error}"),
    };
    let pool = PgPoolOptions::new().max_connections(8);
    let pool = buttress_store::Harden::harden(pool);
    let pool = pool.connect(&server.url("postgres")).await.unwrap();
    let store = PostgresStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let gate = buttress_store::Gate::sql()
        .with_longest_pause(Duration::from_secs(1))
        .unwrap();
    let store = Shaky::new(Arc::new(store.with_gate(gate)), |_| Fate::Well);
    let store = Arc::new(store);
    let sagas = Sagas::shared(Arc::clone(&store) as Arc<dyn Store>);
    let world = World::default();
    let saga = saga(&world);
    let ids = started(&sagas, &saga, 400).await;
    let lease = LeaseTerms::new(Duration::from_secs(3)).unwrap();
    let policy = RunnerPolicy::default()
        .concurrency(100)
        .poll(Duration::from_millis(100))
        .lease(lease.with_ceiling(1000).unwrap());
    let runner = sagas.runner().saga(&saga).policy(policy).build().unwrap();
    let torment = async {
        for kill in 1..=3 {
            let enough = kill * 8;
            while store.batches.load(Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::task::block_in_place(|| server.kill());
            tokio::task::block_in_place(|| server.restart()).unwrap();
        }
        let clock = Stopwatch::start();
        for id in &ids {
            loop {
                match sagas.get(*id).await {
                    Ok(saga) if !saga.state.is_active() => break,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
                assert!(
                    clock.elapsed() < Duration::from_secs(90),
                    "it does not rest"
                );
            }
        }
    };
    runner.run_until(torment).await;
    for id in &ids {
        let history = sagas.history(&saga, *id).await.unwrap();
        assert_eq!(history.saga.state, State::Completed, "{history:?}");
        let there = NAMES.iter().filter(|name| world.has(*id, name)).count();
        assert_eq!(there, NAMES.len(), "{history:?}");
    }
    pool.close().await;
}
