//! Completers on every database: many at once, dropped and killed.

use std::{
    collections::HashMap,
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use buttress_idempotency::{
    Begin, Idempotency, Orphan, Policy,
    store::{MemoryStore, PostgresStore, Store},
};
use buttress_store::LeaseTerms;
use buttress_testkit::{
    cancel_sweep::CancelSweep,
    child::{Child, Role, role},
    eventually,
    proxy::Proxy,
};
use tokio::time::sleep;

use super::{abandon, answers, eager};
use crate::stand::{ASKED, OnMySql, OnPostgres, OnSqlite, SECOND, key};

/// Leases of this length, which are held for as long as their holder lives.
fn leasing(store: impl Store + 'static, length: Duration) -> Idempotency {
    let lease = LeaseTerms::new(length).unwrap().with_ceiling(1000).unwrap();
    let policy = Policy::builder().lease(lease).build().unwrap();
    Idempotency::builder(store).policy(policy).build()
}

/// Leases that are soon over.
fn brief(store: impl Store + 'static) -> Idempotency {
    leasing(store, Duration::from_millis(200))
}

/// Four completers, and clients who come again, on many abandoned keys: no two of them are ever at
/// one key, and each is finished once.
async fn many_at_once(store: impl Store + Clone + 'static) {
    const KEYS: usize = 24;
    let gone = brief(store.clone());
    for number in 0..KEYS {
        abandon(&gone, &format!("many {number}")).await;
    }
    // From here on nobody loses a lease, however busy the machine is.
    let idempotency = Idempotency::new(store.clone());
    let finished = Arc::new(Mutex::new(HashMap::<Vec<u8>, u32>::new()));
    let completers: Vec<_> = (0..4)
        .map(|_| {
            let finished = Arc::clone(&finished);
            let completer = idempotency.completer(move |orphan: Orphan| {
                let finished = Arc::clone(&finished);
                async move {
                    let (request, guard) = (orphan.request.to_vec(), orphan.guard);
                    sleep(Duration::from_millis(2)).await;
                    guard.complete(request.clone()).await.map_err(drop)?;
                    *finished.lock().unwrap().entry(request).or_default() += 1;
                    Ok::<_, ()>(())
                }
            });
            tokio::spawn(eager(completer).run_until(std::future::pending()))
        })
        .collect();
    for number in 0..KEYS {
        let name = format!("many {number}");
        eventually("it is finished", 120 * SECOND, async || {
            let begun = idempotency.begin(&key(&name), &ASKED).await.ok()?;
            match begun {
                Begin::New(guard) => {
                    guard.complete(name.clone()).await.ok()?;
                    let mut finished = finished.lock().unwrap();
                    *finished.entry(name.clone().into_bytes()).or_default() += 1;
                    Some(())
                }
                Begin::Replay(outcome) => (outcome == name).then_some(()),
                _ => None,
            }
        })
        .await;
    }
    // Recorded is not yet noted down here.
    eventually("all are noted down", 60 * SECOND, async || {
        (finished.lock().unwrap().len() == KEYS).then_some(())
    })
    .await;
    for completer in &completers {
        completer.abort();
    }
    let finished = finished.lock().unwrap();
    assert!(finished.values().all(|times| *times == 1), "{finished:?}");
}

#[tokio::test]
async fn on_every_database_of_many_completers_one_has_a_key() {
    many_at_once(MemoryStore::new()).await;
    many_at_once(OnSqlite::start().await.store.clone()).await;
    if let Some(on) = OnMySql::start().await {
        many_at_once(on.store.clone()).await;
        on.close().await;
    }
    if let Some(on) = OnPostgres::start().await {
        many_at_once(on.store.clone()).await;
        on.close().await;
    }
}

/// A record that nobody can read, and one behind it.
async fn damaged(store: impl Store + Clone + 'static, damage: impl AsyncFnOnce(&'static str)) {
    let idempotency = brief(store);
    abandon(&idempotency, "damaged").await;
    damage("UPDATE buttress_idempotency SET fingerprint = token").await;
    abandon(&idempotency, "well").await;
    let mut completer = eager(idempotency.completer(answers)).drives(3).unwrap();
    let mut told = 0;
    eventually(
        "one is finished, the other parked",
        60 * SECOND,
        async || {
            told += u32::from(completer.run_once().await.is_err());
            let listed = idempotency.unfinished(Duration::ZERO, 10).await.ok()?;
            matches!(&listed[..], [it] if it.parked && it.drives == 3).then_some(())
        },
    )
    .await;
    assert_eq!(told, 3, "each drive of it is an error");
    let well = idempotency.begin(&key("well"), &ASKED).await.unwrap();
    assert!(matches!(well, Begin::Replay(outcome) if outcome == "well"));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_parked_and_stands_in_nobodys_way() {
    let on = OnSqlite::start().await;
    damaged(on.store.clone(), async |sql| {
        sqlx::query(sql).execute(on.writer.pool()).await.unwrap();
    })
    .await;
    if let Some(on) = OnMySql::start().await {
        damaged(on.store.clone(), async |sql| {
            sqlx::query(sql).execute(&on.pool).await.unwrap();
        })
        .await;
        on.close().await;
    }
    if let Some(on) = OnPostgres::start().await {
        damaged(on.store.clone(), async |sql| {
            sqlx::query(sql).execute(&on.pool).await.unwrap();
        })
        .await;
        on.close().await;
    }
}

/// A run that is dropped anywhere leaves no key that nobody finishes.
async fn sweep(store: impl Store + Clone + 'static) {
    let idempotency = brief(store);
    let round = AtomicU32::new(0);
    let name = || format!("swept {}", round.load(SeqCst));
    abandon(&idempotency, &name()).await;
    let due = async || {
        let due = async || {
            let listed = idempotency.unfinished(Duration::ZERO, 10).await.ok()?;
            (!listed.is_empty()).then_some(())
        };
        eventually("it is due", 20 * SECOND, due).await;
    };
    due().await;
    CancelSweep::default()
        .run(
            async || {
                let mut completer = eager(idempotency.completer(answers));
                let _ = completer.run_once().await.unwrap();
            },
            async |_| {
                eventually("it is finished", 60 * SECOND, async || {
                    let mut completer = eager(idempotency.completer(answers));
                    completer.run_once().await.ok()?;
                    match idempotency.begin(&key(&name()), &ASKED).await.ok()? {
                        Begin::Replay(outcome) => (outcome == name()).then_some(()),
                        // Between two looks its lease was over: the completer is to have it.
                        Begin::New(guard) => {
                            let _ = guard.keep_unknown().await;
                            None
                        }
                        _ => None,
                    }
                })
                .await;
                round.fetch_add(1, SeqCst);
                abandon(&idempotency, &name()).await;
                due().await;
            },
        )
        .await;
}

#[tokio::test]
async fn a_run_that_is_dropped_anywhere_loses_no_key() {
    sweep(OnSqlite::start().await.store.clone()).await;
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(on.database.url()).await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    sweep(PostgresStore::new(pool.clone()).unwrap()).await;
    pool.close().await;
    on.close().await;
}

/// A completer whose handler never ends, in a process of its own.
#[tokio::main(flavor = "current_thread")]
async fn drive_and_wait(role: Role) {
    let pool = sqlx::PgPool::connect(&env::var("URL").unwrap()).await;
    let store = PostgresStore::new(pool.unwrap()).unwrap();
    let idempotency = leasing(store, 2 * SECOND);
    let role = Arc::new(role);
    let passes = env::var("PASSES").is_ok();
    let completer = idempotency.completer(move |mut orphan: Orphan| {
        let role = Arc::clone(&role);
        async move {
            if passes {
                orphan.guard.phase("ride", &7).await.map_err(drop)?;
            }
            tokio::task::spawn_blocking(move || role.wait_at("driving"))
                .await
                .map_err(drop)?;
            Ok::<_, ()>(())
        }
    });
    eager(completer).run_until(std::future::pending()).await;
}

#[test]
fn completer_role() {
    if let Some(role) = role("completer") {
        drive_and_wait(role);
    }
}

/// Of two abandoned keys one takes its process with it, perhaps after a phase. As how many drives
/// they are finished then, and what they had passed.
async fn one_of_two_dies(passes: bool) -> Option<Vec<(u32, Option<u64>)>> {
    let on = OnPostgres::start().await?;
    let gone = brief(on.store.clone());
    for name in ["one", "other"] {
        abandon(&gone, name).await;
    }
    let mut child = Child::role("completer", "completer::databases::completer_role")
        .environment("URL", on.database.url());
    if passes {
        child = child.environment("PASSES", "yes");
    }
    let mut child = child.spawn();
    child.until("driving").await;
    child.kill();
    let (said, heard) = mpsc::channel();
    let idempotency = Idempotency::new(on.store.clone());
    let completer = idempotency.completer(move |mut orphan: Orphan| {
        let passed = orphan.guard.passed::<u64>("ride").unwrap();
        said.send((orphan.drive, passed)).unwrap();
        answers(orphan)
    });
    let mut completer = eager(completer);
    let mut finished = 0;
    eventually("both are finished", 60 * SECOND, async || {
        finished += completer.run_once().await.ok()?.finished;
        (finished == 2).then_some(())
    })
    .await;
    let mut heard: Vec<_> = heard.try_iter().collect();
    heard.sort_unstable();
    on.close().await;
    Some(heard)
}

#[tokio::test]
async fn a_handler_that_takes_its_process_with_it_is_counted_against_its_own_key() {
    let Some(heard) = one_of_two_dies(false).await else {
        return;
    };
    assert_eq!(heard, [(1, None), (2, None)], "one died, one did not");
}

#[tokio::test]
async fn a_handler_that_dies_after_a_phase_has_got_on_and_is_counted_anew() {
    let Some(heard) = one_of_two_dies(true).await else {
        return;
    };
    assert_eq!(heard, [(1, None), (1, Some(7))]);
}
