//! Signals on every database: sent by other processes, and in transactions.

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    RunnerPolicy, Sagas, State, StepState,
    store::{Ask, Hand, MemoryStore, Store, Then, Write},
};
use buttress_store::Token;
use buttress_testkit::eventually::eventually_as;

use crate::{
    signals::{WITHIN, patient, patient_of, start, told},
    stand,
    world::World,
};

/// For what a loaded machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same by the clock and the locks of each database: the signal is sent by another process's
/// handle, which wakes nobody here.
async fn waits_on(store: Arc<dyn Store>) {
    let world = World::default();
    let saga = patient(&world, WITHIN);
    let (here, there) = (Sagas::shared(Arc::clone(&store)), Sagas::shared(store));
    let policy = RunnerPolicy::default().poll(Duration::from_millis(20));
    let short = patient_of(&world, Duration::from_millis(700), 2);
    let runner = here.runner().saga(&saga).saga(&short).policy(policy);
    let runner = runner.build().unwrap();
    let mut ids = Vec::new();
    for number in 0..10_u64 {
        let id = start(&there, &saga).await;
        if number % 2 == 0 {
            let early = there.signal(id, "paid", "m1", &number).await;
            assert!(early.unwrap());
        }
        ids.push(id);
    }
    let missed = start(&there, &short).await;
    let test = async {
        for (number, id) in (0..).zip(&ids).filter(|it| it.0 % 2 == 1) {
            eventually_as("it waits", PATIENCE, async || {
                let history = there.history(&saga, *id).await.unwrap();
                (history.steps[1].state == StepState::Waiting)
                    .then_some(())
                    .ok_or(format!("{:?}", history.steps))
            })
            .await;
            let late = there.signal(*id, "paid", "m1", &number).await;
            assert!(late.unwrap());
            assert!(!there.signal(*id, "paid", "m1", &99_u64).await.unwrap());
        }
        for id in ids.iter().chain([&missed]) {
            eventually_as("it ends", PATIENCE, async || {
                let found = there.get(*id).await.unwrap();
                (found.state == State::Completed)
                    .then_some(())
                    .ok_or(format!("{found:?}"))
            })
            .await;
        }
    };
    tokio::select! {
        () = test => {}
        () = runner.run_until(std::future::pending()) => {}
    }
    for (number, id) in (0_u64..).zip(&ids) {
        let told = told(&there, &saga, *id).await;
        assert_eq!(told, Some(number.to_string()));
    }
    let told = told(&there, &short, missed).await;
    assert_eq!(told.as_deref(), Some("null"));
}

#[tokio::test]
async fn polling_finds_signals_of_other_processes_on_every_store() {
    if let Some(stand) = stand::postgres().await.unwrap() {
        waits_on(Arc::clone(&stand.store)).await;
        stand.close().await.unwrap();
    }
    if let Some(stand) = stand::mysql().await.unwrap() {
        waits_on(Arc::clone(&stand.store)).await;
        stand.close().await.unwrap();
    }
    waits_on(stand::sqlite().await.unwrap().store).await;
    waits_on(Arc::new(MemoryStore::new())).await;
}

/// What is sent in a transaction is sent if that commits; the saga's row is locked until then, and
/// whoever releases it meanwhile finds the signal.
macro_rules! in_transaction {
    ($stand:expr) => {{
        let (pool, store) = (&$stand.pool, Arc::clone(&$stand.store));
        let saga = patient(&World::default(), WITHIN);
        let sagas = Sagas::shared(Arc::clone(&store));
        let id = start(&sagas, &saga).await;
        let send = async |commit: bool| {
            let mut tx = pool.begin().await.unwrap();
            let sent = sagas.signal_in(&mut *tx, id, "paid", "m1", &7_u64).await;
            let (new, wake) = sent.unwrap();
            assert!(new);
            if commit {
                tx.commit().await.unwrap();
                wake.fire();
            } else {
                tx.rollback().await.unwrap();
            }
        };
        send(false).await;
        assert_eq!(store.signals(id, "paid").await.unwrap().first, None);
        let ask = Ask {
            definition: saga.key().clone(),
            limit: 1,
            length: WITHIN,
            token: Token::random(),
            lapsed: None,
        };
        let claimed = store.claim(&ask).await.unwrap().remove(0);
        let release = Write {
            expected: 0,
            entries: Vec::new(),
            state: State::Running,
            reason: None,
            then: Then::Listen {
                after: WITHIN,
                seen: 0,
            },
            progress: false,
            starts: Vec::new(),
            wakes: None,
        };
        let by = Hand::Holder(claimed.fence);
        let (released, ()) = tokio::join!(store.append(id, by, &release), send(true));
        assert!(released.unwrap());
        assert_eq!(store.claim(&ask).await.unwrap().len(), 1, "it is due");
    }};
}

/// At the level that transactions have by default.
#[tokio::test]
async fn a_signal_in_a_transaction_of_mysql_locks_its_saga_and_no_other() {
    let Some(stand) = stand::mysql().await.unwrap() else {
        return;
    };
    let saga = patient(&World::default(), WITHIN);
    let sagas = Sagas::shared(Arc::clone(&stand.store));
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(start(&sagas, &saga).await);
    }
    let ask = Ask {
        definition: saga.key().clone(),
        limit: 6,
        length: WITHIN,
        token: Token::random(),
        lapsed: None,
    };
    let claimed = stand.store.claim(&ask).await.unwrap();
    assert_eq!(claimed.len(), 6);
    let mut open = stand.pool.begin().await.unwrap();
    let sent = sagas.signal_in(&mut *open, ids[2], "paid", "m1", &7_u64);
    assert!(sent.await.unwrap().0);
    // Others are sent to meanwhile, in such a transaction and out of it, and go to rest.
    for (place, id) in ids.iter().enumerate().filter(|it| it.0 != 2) {
        if place % 2 == 0 {
            let mut other = stand.pool.begin().await.unwrap();
            let sent = sagas.signal_in(&mut *other, *id, "paid", "m1", &7_u64);
            let sent = tokio::time::timeout(PATIENCE / 3, sent).await;
            assert!(sent.expect("it waits for another's").unwrap().0, "{place}");
            other.commit().await.unwrap();
        } else {
            let sent = sagas.signal(*id, "paid", "m1", &7_u64).await;
            assert!(sent.unwrap(), "{place}");
        }
        let claim = claimed.iter().find(|it| it.record.id == *id).unwrap();
        let listen = Write {
            expected: 0,
            entries: Vec::new(),
            state: State::Running,
            reason: None,
            then: Then::Listen {
                after: WITHIN,
                seen: 1,
            },
            progress: false,
            starts: Vec::new(),
            wakes: None,
        };
        let by = Hand::Holder(claim.fence);
        assert!(stand.store.append(*id, by, &listen).await.unwrap());
    }
    open.commit().await.unwrap();
    for id in ids {
        let found = stand.store.signals(id, "paid").await.unwrap();
        assert_eq!(found.count, 1);
        assert!(!sagas.signal(id, "paid", "m1", &8_u64).await.unwrap());
    }
    stand.close().await.unwrap();
}

#[tokio::test]
async fn a_signal_of_a_transaction_is_sent_if_it_commits_and_wakes_whoever_was_released_meanwhile()
{
    if let Some(stand) = stand::postgres().await.unwrap() {
        for _ in 0..5 {
            in_transaction!(stand);
        }
        stand.close().await.unwrap();
    }
    if let Some(stand) = stand::mysql().await.unwrap() {
        for _ in 0..5 {
            in_transaction!(stand);
        }
        stand.close().await.unwrap();
    }
    let stand = stand::sqlite().await.unwrap();
    in_transaction!(stand);
}
