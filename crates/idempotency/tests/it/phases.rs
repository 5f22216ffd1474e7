//! Work in phases: what is passed, what is told, and who is refused.

use std::time::Duration;

use async_trait::async_trait;
use buttress_core::{Chain, Fault as _};
use buttress_idempotency::{
    Begin, CompleteError, Event, EventKind, Guard, Idempotency, Key, PhaseError, Policy, Scope,
    ScopedKey,
    store::{
        Answer, Checkpoint, InTransaction, Keeps, MemoryStore, PostgresStore, Request, Store,
        Unfinished,
    },
};
use buttress_store::{Deadline, Fence, Guarded, LeaseTerms, Lent, SqlDatabase, StoreError};
use buttress_testkit::{
    eventually,
    fault::{Fault, Injection, Plan},
    fault_sweep,
};
use bytes::Bytes;
use serde_json::json;
use tokio::time::{advance, sleep, timeout};

use crate::{
    killed::phases::Rides,
    stand::{ASKED, Faulty, OnMySql, OnPostgres, OnSqlite, SECOND, key, new, store_error},
};

/// The planted bug: a phase in the user's transaction is committed by itself.
#[derive(Debug)]
pub(crate) struct Loose<S>(pub(crate) S);

#[async_trait]
impl<S: Store> Store for Loose<S> {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.0.claim(request).await
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.extend(key, fence, lease, retention).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.complete(key, fence, outcome, retention).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.0.release(key, fence).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.0.doubt(key, fence).await
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.0.reap(limit).await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.0.unfinished(idle, limit).await
    }

    fn keeps(&self) -> Keeps {
        self.0.keeps()
    }

    fn in_transaction(&self) -> InTransaction {
        self.0.in_transaction()
    }

    async fn checkpoint_in(
        &self,
        _: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        self.0.checkpoint(key, fence, checkpoint).await
    }

    async fn complete_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0
            .complete_in(connection, key, fence, outcome, retention)
            .await
    }
}

/// The planted bug: whoever passes a phase in a transaction is taken for the owner.
#[derive(Debug)]
struct Unfenced(PostgresStore);

#[async_trait]
impl Store for Unfenced {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.0.claim(request).await
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.extend(key, fence, lease, retention).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.complete(key, fence, outcome, retention).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.0.release(key, fence).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.0.doubt(key, fence).await
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.0.reap(limit).await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.0.unfinished(idle, limit).await
    }

    fn keeps(&self) -> Keeps {
        self.0.keeps()
    }

    async fn checkpoint_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        _: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE buttress_idempotency SET progress = $1 WHERE id = $2";
        let update = sqlx::query(sql).bind(&checkpoint.after[..]);
        let done = update
            .bind(key.as_bytes())
            .execute(connection.postgres()?)
            .await;
        Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }
}

fn resumed(begun: Begin) -> Guard {
    let guard = new(begun);
    assert!(guard.resumed());
    guard
}

/// Passes this phase, whatever it comes to.
async fn pass(guard: &mut Guard, name: &str, output: u64) {
    assert_eq!(guard.passed::<u64>(name).unwrap(), None, "{name}");
    guard.phase(name, &output).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_is_told_in_its_own_type_and_the_rest_is_done() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    let output = json!({"id": 7, "text": "one line\nand another \u{e4} \0"});
    assert_eq!(guard.passed::<serde_json::Value>("ride").unwrap(), None);
    guard.phase("ride", &output).await.unwrap();
    let charge = guard.derived_key("charge");
    drop(guard);
    advance(30 * SECOND).await;
    let mut guard = resumed(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    assert_eq!(guard.passed("ride").unwrap(), Some(output));
    assert_eq!(guard.derived_key("charge"), charge, "the same in each try");
    pass(&mut guard, "charge", 1).await;
    guard.complete("done").await.unwrap();
    let again = idempotency.begin(&key("one"), &ASKED).await.unwrap();
    assert!(matches!(again, Begin::Replay(outcome) if outcome == "done"));
}

#[test]
fn derived_keys_are_those_of_one_scope_key_and_step() {
    let of = |scope: &str, name: &str, step: &str| {
        let key = Scope::of([scope]).key(&Key::new(name).unwrap());
        key.derive(step)
    };
    let all = [
        of("a", "k", "charge"),
        of("b", "k", "charge"),
        of("a", "kc", "harge"),
        of("a", "k", "ship"),
    ];
    for (at, one) in all.iter().enumerate() {
        assert_eq!(one.len(), 64);
        assert!(!all[at + 1..].contains(one));
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_program_is_told_so_and_does_nothing() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let mut first = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    pass(&mut first, "ride", 7).await;
    pass(&mut first, "charge", 8).await;
    drop(first);
    let again = async || {
        advance(300 * SECOND).await;
        resumed(idempotency.begin(&key("one"), &ASKED).await.unwrap())
    };
    let mut turned = again().await;
    let wrong = turned.passed::<u64>("charge").unwrap_err();
    let PhaseError::Changed(changed) = &wrong else {
        panic!("{wrong:?}")
    };
    assert_eq!(changed.number, 1);
    assert_eq!(changed.recorded.as_deref(), Some("ride"));
    assert_eq!(changed.found.as_deref(), Some("charge"));
    assert_eq!((wrong.status(), wrong.code()), (500, "INTERNAL"));
    drop(turned);
    let mut blind = again().await;
    let wrong = blind.phase("ride", &9).await.unwrap_err();
    assert!(matches!(wrong, PhaseError::Passed), "{wrong:?}");
    let wrong = blind.phase("trip", &9).await.unwrap_err();
    assert!(matches!(wrong, PhaseError::Changed(_)), "{wrong:?}");
    drop(blind);
    let mut shorter = again().await;
    assert_eq!(shorter.passed("ride").unwrap(), Some(7));
    let wrong = shorter.complete("done").await.unwrap_err();
    assert!(matches!(wrong, CompleteError::Changed(_)), "{wrong:?}");
    let mut other_type = again().await;
    let wrong = other_type.passed::<String>("ride").unwrap_err();
    assert!(matches!(wrong, PhaseError::Unreadable), "{wrong:?}");
    assert!(!Chain(&wrong).to_string().contains('7'), "{wrong}");
    drop(other_type);
    let mut right = again().await;
    assert_eq!(right.passed("ride").unwrap(), Some(7));
    assert_eq!(right.passed("charge").unwrap(), Some(8));
    right.complete("done").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_name_or_too_large_is_refused_before_the_store_is_asked() {
    let policy = Policy::builder().longest_progress(32).build().unwrap();
    let builder = Idempotency::builder(MemoryStore::new()).policy(policy);
    let idempotency = builder.build();
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    for name in ["", "a b", "a\n", "\u{e4}", &"x".repeat(65)] {
        let wrong = guard.passed::<u64>(name).unwrap_err();
        assert!(matches!(wrong, PhaseError::Name), "{name:?}");
        let wrong = guard.phase(name, &1).await.unwrap_err();
        assert!(matches!(wrong, PhaseError::Name), "{name:?}");
    }
    let wrong = guard.phase("ride", &"x".repeat(32)).await.unwrap_err();
    let (length, longest) = (40, 32);
    assert!(
        matches!(wrong, PhaseError::TooLarge { length: l, longest: m } if (l, m) == (length, longest)),
        "{wrong:?}"
    );
    guard.phase("ride", &1).await.unwrap();
    guard.complete("done").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_phase_is_told_to_those_who_listen() {
    let (said, heard) = std::sync::mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let idempotency = Idempotency::builder(MemoryStore::new())
        .observer(move |event: &Event| said.lock().unwrap().send(event.kind).unwrap())
        .build();
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    pass(&mut guard, "ride", 7).await;
    pass(&mut guard, "charge", 7).await;
    guard.complete("done").await.unwrap();
    let expected = [EventKind::Passed, EventKind::Passed, EventKind::Completed];
    assert_eq!(heard.try_iter().skip(1).collect::<Vec<_>>(), expected);
}

/// Two phases and an outcome, asked for until there is an answer.
async fn asks(idempotency: &Idempotency, effects: &[std::sync::atomic::AtomicU32; 2]) -> Bytes {
    use std::sync::atomic::Ordering::Relaxed;
    let once = async || {
        let mut guard = match idempotency.begin(&key("one"), &ASKED).await.ok()? {
            Begin::New(guard) => guard,
            Begin::Replay(outcome) => return Some(outcome),
            _ => return None,
        };
        for (name, effect) in ["ride", "charge"].iter().zip(effects) {
            if guard.passed::<()>(name).unwrap().is_none() {
                effect.fetch_add(1, Relaxed);
                guard.phase(name, &()).await.ok()?;
            }
        }
        guard.complete("done").await.ok()?;
        Some(Bytes::from_static(b"done"))
    };
    for _ in 0..50 {
        if let Some(answer) = once().await {
            return answer;
        }
        sleep(10 * SECOND).await;
    }
    panic!("there is no answer after fifty tries");
}

#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_repeats_no_phase() {
    let scenario = async |plan: Plan<StoreError>| {
        let idempotency = Idempotency::new(Faulty::new(MemoryStore::new(), plan));
        let effects = Default::default();
        let first = asks(&idempotency, &effects).await;
        assert_eq!(first, asks(&idempotency, &effects).await);
        // A phase is recorded to its end: no single fault is enough for a second effect.
        for effect in effects {
            assert_eq!(effect.into_inner(), 1);
        }
    };
    let injected = fault_sweep(&Fault::ALL, store_error, scenario).await;
    assert!(injected >= 24, "{injected}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_leaves_the_phase_in_doubt_and_the_next_resumes() {
    let away = (2..50).map(|operation| Injection::new(operation, Fault::DoneThenError));
    let memory = MemoryStore::new();
    let faulty = Faulty::new(memory.clone(), Plan::new(away, store_error));
    let idempotency = Idempotency::new(faulty);
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    let wrong = guard.phase("ride", &7).await.unwrap_err();
    assert!(matches!(wrong, PhaseError::Store(_)), "{wrong:?}");
    drop(guard);
    advance(300 * SECOND).await;
    let idempotency = Idempotency::new(memory);
    let mut guard = resumed(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    assert_eq!(guard.passed("ride").unwrap(), Some(7), "it was stored");
}

/// Leases that nobody prolongs, so that a worker that stands still loses it.
fn brief(store: impl Store + 'static) -> Idempotency {
    let lease = LeaseTerms::new(Duration::from_millis(200)).unwrap();
    let policy = Policy::builder().lease(lease.with_ceiling(1).unwrap());
    let policy = policy.build().unwrap();
    Idempotency::builder(store).policy(policy).build()
}

async fn takes_over(idempotency: &Idempotency) -> Guard {
    eventually("the lease is over", 20 * SECOND, async || match idempotency
        .begin(&key("one"), &ASKED)
        .await
        .ok()?
    {
        Begin::New(guard) => Some(guard),
        _ => None,
    })
    .await
}

/// A worker comes back after another has taken over and passed the phase. How many rides then are.
async fn zombie<DB: SqlDatabase>(rides: &Rides<DB>, idempotency: &Idempotency) -> i64
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    rides.open().await;
    let mut zombie = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    assert_eq!(zombie.passed::<u64>("ride").unwrap(), None);
    let mut owner = takes_over(idempotency).await;
    for guard in [&mut owner, &mut zombie] {
        let deadline = Deadline::after(Deadline::SQL);
        let mut transaction = Guarded::begin(&rides.pool, deadline).await.unwrap();
        let insert = sqlx::query::<DB>("INSERT INTO rides VALUES (1, 7)");
        insert.execute(&mut *transaction).await.unwrap();
        match guard.phase_in(&mut *transaction, "ride", &7).await {
            Ok(()) => transaction.commit().await.unwrap(),
            Err(PhaseError::Lost(_)) => transaction.rollback().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    rides.count("rides", 1).await.0
}

#[tokio::test]
async fn a_zombies_phase_is_refused_and_rolled_back_on_every_database() {
    let on = OnSqlite::start().await;
    let rides = Rides::new(on.writer.pool().clone(), on.store.clone());
    assert_eq!(zombie(&rides, &brief(on.store.clone())).await, 1);
    if let Some(on) = OnMySql::start().await {
        let rides = Rides::new(on.pool.clone(), on.store.clone());
        assert_eq!(zombie(&rides, &brief(on.store.clone())).await, 1);
        drop(rides);
        on.close().await;
    }
    if let Some(on) = OnPostgres::start().await {
        let rides = Rides::new(on.pool.clone(), on.store.clone());
        assert_eq!(zombie(&rides, &brief(on.store.clone())).await, 1);
        drop(rides);
        on.close().await;
    }
}

#[tokio::test]
async fn a_phase_without_its_fence_is_found() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let rides = Rides::new(on.pool.clone(), on.store.clone());
    let unfenced = brief(Unfenced(on.store.clone()));
    assert_eq!(zombie(&rides, &unfenced).await, 2, "the bug has its effect");
    drop(rides);
    on.close().await;
}

/// A transaction that is rolled back is done again; one that was committed without an answer is
/// not; and who takes over while it is open is told how it ended.
async fn in_transactions<DB: SqlDatabase>(
    pool: &sqlx::Pool<DB>,
    store: impl Store + Clone + 'static,
) where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let begin = async || {
        let deadline = Deadline::after(Deadline::SQL);
        Guarded::begin(pool, deadline).await.unwrap()
    };
    let idempotency = Idempotency::new(store.clone());
    let mut guard = new(idempotency.begin(&key("again"), &ASKED).await.unwrap());
    assert_eq!(guard.passed::<u64>("ride").unwrap(), None);
    for _ in 0..2 {
        let mut transaction = begin().await;
        let passed = guard.phase_in(&mut *transaction, "ride", &7).await;
        passed.unwrap();
        transaction.rollback().await.unwrap();
    }
    let mut transaction = begin().await;
    let passed = guard.phase_in(&mut *transaction, "ride", &8).await;
    passed.unwrap();
    transaction.commit().await.unwrap();
    // As if the commit had not been answered, and the caller tried again.
    let mut transaction = begin().await;
    let again = guard.phase_in(&mut *transaction, "ride", &8).await;
    assert!(matches!(again, Err(PhaseError::Lost(_))), "{again:?}");
    transaction.rollback().await.unwrap();
    guard.release().await.unwrap();
    let mut guard = new(idempotency.begin(&key("again"), &ASKED).await.unwrap());
    assert_eq!(guard.passed("ride").unwrap(), Some(8));

    let idempotency = brief(store);
    let mut first = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    let mut transaction = begin().await;
    let passed = first.phase_in(&mut *transaction, "ride", &9).await;
    passed.unwrap();
    let lost = timeout(20 * SECOND, first.lost()).await;
    assert!(lost.is_ok(), "its lease is over while it is not committed");
    let mut second = std::pin::pin!(takes_over(&idempotency));
    let early = timeout(SECOND / 5, &mut second).await;
    assert!(early.is_err(), "who takes over must know how it ends");
    transaction.commit().await.unwrap();
    let mut second = second.await;
    assert_eq!(second.passed("ride").unwrap(), Some(9));
}

#[tokio::test]
async fn on_postgres_a_phase_is_there_with_its_transaction_or_not_at_all() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    in_transactions(&on.pool, on.store.clone()).await;
    on.close().await;
}

#[tokio::test]
async fn on_mysql_a_phase_is_there_with_its_transaction_or_not_at_all() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    in_transactions(&on.pool, on.store.clone()).await;
    on.close().await;
}

#[tokio::test]
async fn on_sqlite_a_phase_is_there_with_its_transaction_or_not_at_all() {
    let on = OnSqlite::start().await;
    in_transactions(on.writer.pool(), on.store.clone()).await;
}

#[tokio::test]
async fn a_key_in_phases_is_not_finished_by_a_program_without_them() {
    let on = OnSqlite::start().await;
    let idempotency = Idempotency::new(on.store.clone());
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    guard.phase("ride", &7).await.unwrap();
    guard.release().await.unwrap();
    let mut transaction = on
        .writer
        .begin(Deadline::after(Deadline::SQL))
        .await
        .unwrap();
    let key = key("one");
    let begun = idempotency.begin_in(&mut *transaction, &key, &ASKED);
    let guard = new(begun.await.unwrap());
    assert!(guard.resumed());
    let refused = guard.complete_in(&mut *transaction, "done").await;
    assert!(matches!(refused, Err(CompleteError::Changed(_))));
    transaction.rollback().await.unwrap();
}
