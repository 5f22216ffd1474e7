//! What ended long ago is removed, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use buttress_saga::{
    Sagas, StartOptions, State,
    store::{Ask, MemoryStore, MySqlStore, Store},
};
use buttress_store::Token;
use buttress_testkit::proxy::{Proxy, Way};

use crate::{
    calls::order,
    shaky::{Fate, Shaky},
    stand,
    world::{Act, World},
};

const KEPT: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn what_ended_is_kept_for_as_long_as_it_says_and_what_did_not_for_ever() {
    let world = World::default();
    let saga = order(&world);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store));
    // Of thirty, one is refused behind its pivot, and parked.
    world.script(7, "ship", &[Act::Refused]);
    let mut ids = Vec::new();
    for number in 0..30 {
        let started = sagas.start(&saga, &number, StartOptions::new()).await;
        ids.push(started.unwrap().id());
    }
    let runner = sagas.runner().saga(&saga).build().unwrap();
    assert_eq!(runner.run_once().await.unwrap(), 30);
    let waits = sagas.start(&saga, &30, StartOptions::new()).await.unwrap();
    // The store fails every third time, and batches are small.
    let shaky = Shaky::new(Arc::clone(&store), |number| match number % 3 {
        0 => Fate::Fails,
        _ => Fate::Well,
    });
    let shaky = Sagas::new(shaky);
    let pruner = shaky.pruner(KEPT).with(Duration::from_secs(60), 7).unwrap();
    pruner
        .run_until(tokio::time::sleep(KEPT - Duration::from_secs(5)))
        .await;
    for id in &ids {
        assert!(sagas.get(*id).await.is_ok(), "it was removed too early");
    }
    pruner
        .run_until(tokio::time::sleep(Duration::from_secs(1800)))
        .await;
    let mut left = Vec::new();
    for id in ids {
        if let Ok(saga) = sagas.get(id).await {
            left.push(saga.state);
        }
    }
    assert_eq!(
        left,
        [State::NeedsAttention],
        "all that ended, and nothing else"
    );
    assert_eq!(sagas.get(waits.id()).await.unwrap().state, State::Running);
}

/// A trip for each of them would take longer than the store's deadline: none would ever be removed,
/// and whoever shares the store would be kept waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_claimed_and_pruned_in_time_however_slow_the_network() {
    let Some(stand) = stand::mysql().await.unwrap() else {
        return;
    };
    let saga = order(&World::default());
    let sagas = Sagas::shared(Arc::clone(&stand.store));
    for number in 0..500 {
        let started = sagas.start(&saga, &number, StartOptions::new()).await;
        started.unwrap();
    }
    let (proxy, url) = Proxy::before(stand.database.url()).await.unwrap();
    let far = sqlx::MySqlPool::connect(&url).await.unwrap();
    let store = MySqlStore::new(far.clone()).unwrap();
    proxy.delay(Way::ToServer, Duration::from_millis(12));
    let ask = Ask {
        definition: saga.key().clone(),
        limit: 500,
        length: KEPT,
        token: Token::random(),
        lapsed: None,
    };
    assert_eq!(store.claim(&ask).await.unwrap().len(), 500);
    let end = "UPDATE buttress_saga SET state = 2, ended_at = 1";
    sqlx::query(end).execute(&stand.pool).await.unwrap();
    assert_eq!(store.prune(KEPT, 500).await.unwrap(), 500);
    assert_eq!(sagas.census().await.unwrap(), []);
    far.close().await;
    stand.close().await.unwrap();
}

/// While one of them is in the middle of its claim, for longer than the others need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_claims_some_of_many_keeps_nobody_from_claiming_others() {
    let Some(stand) = stand::mysql().await.unwrap() else {
        return;
    };
    let saga = order(&World::default());
    let sagas = Sagas::shared(Arc::clone(&stand.store));
    for number in 0..300 {
        let started = sagas.start(&saga, &number, StartOptions::new()).await;
        started.unwrap();
    }
    let (proxy, url) = Proxy::before(stand.database.url()).await.unwrap();
    let far = sqlx::MySqlPool::connect(&url).await.unwrap();
    let store = MySqlStore::new(far.clone()).unwrap();
    proxy.delay(Way::ToServer, Duration::from_millis(200));
    let ask = |limit| Ask {
        definition: saga.key().clone(),
        limit,
        length: KEPT,
        token: Token::random(),
        lapsed: None,
    };
    let ended = AtomicBool::new(false);
    let slowly = async {
        let claimed = store.claim(&ask(10)).await.unwrap().len();
        ended.store(true, Ordering::Relaxed);
        claimed
    };
    let beside = async {
        let mut count = 0;
        while !ended.load(Ordering::Relaxed) && count < 100 {
            count += 1;
            let claimed = stand.store.claim(&ask(1)).await.unwrap();
            assert_eq!(claimed.len(), 1, "the others are free: {count}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        count
    };
    let (claimed, beside) = tokio::join!(slowly, beside);
    assert_eq!(claimed, 10);
    assert!(beside > 5, "they met: {beside}");
    far.close().await;
    stand.close().await.unwrap();
}

#[test]
fn a_pruner_that_cannot_work_is_refused() {
    let sagas = Sagas::new(MemoryStore::new());
    let second = Duration::from_secs(1);
    for (every, batch) in [
        (Duration::ZERO, 1),
        (Duration::MAX, 1),
        (second, 0),
        (second, 100_001),
    ] {
        assert!(sagas.pruner(KEPT).with(every, batch).is_err());
    }
}
