//! Workers that are killed, aborted and stopped at any point, on every store.

mod aborted;
pub(crate) mod phases;
mod redis;
mod stopped;

use std::{env, time::Duration};

use buttress_idempotency::{
    Begin, CompleteError, Idempotency, Policy,
    store::{MySqlStore, PostgresStore, Store},
};
use buttress_store::{Deadline, Guarded, LeaseTerms, SqlDatabase, StoreError};
use buttress_testkit::{
    child::{Child, Role, role},
    eventually,
    fault::{CrashPoint, Plan},
    seed::Seed,
    short_or_long,
};
use rand::RngExt as _;
use sqlx::Pool;
use tokio::time::sleep;

use crate::stand::{ASKED, Faulty, OnMySql, OnPostgres, OnSqlite, SECOND, key, open};

const LEASE: Duration = Duration::from_millis(200);
const KEYS: i64 = 20;

const TABLES: [&str; 2] = [
    "CREATE TABLE effects (number BIGINT NOT NULL, token BIGINT NOT NULL)",
    "CREATE TABLE seen (number BIGINT NOT NULL, token BIGINT NOT NULL)",
];
const EMPTY: [&str; 3] = [
    "DELETE FROM effects",
    "DELETE FROM seen",
    "DELETE FROM buttress_idempotency",
];
const EFFECTS: &str = "SELECT number, COUNT(*) FROM effects GROUP BY number";
const SEEN: &str = "SELECT number, COUNT(DISTINCT token) FROM seen GROUP BY number";

/// How the effect and what is known of it come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strength {
    /// Claim, effect, completion: three commits.
    Recorded,
    /// Claim; effect and completion in one commit.
    Completed,
    /// All in one commit.
    Claimed,
}

impl Strength {
    const ALL: [Self; 3] = [Self::Recorded, Self::Completed, Self::Claimed];

    fn from_environment() -> Self {
        let name = env::var("STRENGTH").unwrap();
        let mut all = Self::ALL.into_iter();
        all.find(|it| format!("{it:?}") == name).unwrap()
    }
}

fn handle(store: impl Store + 'static) -> Idempotency {
    let lease = LeaseTerms::new(LEASE).unwrap();
    let policy = Policy::builder().lease(lease).build().unwrap();
    Idempotency::builder(store).policy(policy).build()
}

/// A database as the tests use it: how its placeholders look is what differs.
struct Shop<DB: SqlDatabase> {
    pool: Pool<DB>,
    idempotency: Idempotency,
    effect: &'static str,
    see: &'static str,
}

const DOLLARS: [&str; 2] = [
    "INSERT INTO effects VALUES ($1, $2)",
    "INSERT INTO seen VALUES ($1, $2)",
];
const MARKS: [&str; 2] = [
    "INSERT INTO effects VALUES (?, ?)",
    "INSERT INTO seen VALUES (?, ?)",
];

macro_rules! shop {
    ($database:ty) => {
        impl Shop<$database> {
            fn new(
                pool: Pool<$database>,
                store: impl Store + 'static,
                [effect, see]: [&'static str; 2],
            ) -> Self {
                let idempotency = handle(store);
                Self {
                    pool,
                    idempotency,
                    effect,
                    see,
                }
            }

            async fn open(&self) {
                for table in TABLES {
                    sqlx::query(table).execute(&self.pool).await.unwrap();
                }
            }

            async fn write(
                connection: &mut <$database as sqlx::Database>::Connection,
                sql: &'static str,
                number: i64,
                token: i64,
            ) -> Result<(), StoreError> {
                let insert = sqlx::query(sql).bind(number).bind(token);
                insert
                    .execute(connection)
                    .await
                    .map_err(StoreError::in_transaction)?;
                Ok(())
            }

            /// Asks for one order. The token that comes back is what all must be told.
            async fn ask(&self, number: i64, strength: Strength) -> Result<Option<i64>, Failed> {
                let key = key(&format!("order {number}"));
                let token: i64 = rand::random();
                let deadline = Deadline::after(Deadline::SQL);
                if strength == Strength::Claimed {
                    let mut transaction = Guarded::begin(&self.pool, deadline).await?;
                    let begun = self
                        .idempotency
                        .begin_in(&mut *transaction, &key, &ASKED)
                        .await;
                    return match begun.map_err(|_| Failed)? {
                        Begin::New(guard) => {
                            Self::write(&mut transaction, self.effect, number, token).await?;
                            let outcome = token.to_be_bytes().to_vec();
                            let done = guard.complete_in(&mut *transaction, outcome).await?;
                            transaction.commit().await?;
                            done.fire();
                            Ok(Some(token))
                        }
                        Begin::Replay(outcome) => {
                            // Dropped, it would cost the server a new connection each time.
                            transaction.rollback().await?;
                            Ok(Some(told(&outcome)))
                        }
                        _ => {
                            transaction.rollback().await?;
                            Ok(None)
                        }
                    };
                }
                let guard = match self
                    .idempotency
                    .begin(&key, &ASKED)
                    .await
                    .map_err(|_| Failed)?
                {
                    Begin::New(guard) => guard,
                    Begin::Replay(outcome) => return Ok(Some(told(&outcome))),
                    _ => return Ok(None),
                };
                let mut transaction = Guarded::begin(&self.pool, deadline).await?;
                Self::write(&mut transaction, self.effect, number, token).await?;
                let outcome = token.to_be_bytes().to_vec();
                if strength == Strength::Completed {
                    let done = guard.complete_in(&mut *transaction, outcome).await?;
                    transaction.commit().await?;
                    done.fire();
                } else {
                    transaction.commit().await?;
                    guard.complete(outcome).await?;
                }
                Ok(Some(token))
            }

            /// Asks for orders, at random, until it is killed.
            async fn work(&self, role: &Role, strength: Strength) {
                role.announce("working", "");
                loop {
                    let number = rand::rng().random_range(0..KEYS);
                    if let Ok(Some(token)) = self.ask(number, strength).await {
                        let mut connection = self.pool.acquire().await.unwrap();
                        let seen = Self::write(&mut connection, self.see, number, token).await;
                        seen.unwrap();
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            }

            /// After everything: each order is finished, once.
            async fn finish(&self, strength: Strength) -> i64 {
                for number in 0..KEYS {
                    let token = eventually("it can be finished", 20 * SECOND, async || {
                        self.ask(number, strength).await.ok().flatten()
                    })
                    .await;
                    let mut connection = self.pool.acquire().await.unwrap();
                    Self::write(&mut connection, self.see, number, token)
                        .await
                        .unwrap();
                }
                let effects: Vec<(i64, i64)> =
                    sqlx::query_as(EFFECTS).fetch_all(&self.pool).await.unwrap();
                let seen: Vec<(i64, i64)> =
                    sqlx::query_as(SEEN).fetch_all(&self.pool).await.unwrap();
                assert_eq!((effects.len(), seen.len()), (20, 20));
                for (number, tokens) in seen {
                    assert_eq!(tokens, 1, "of order {number} different things were told");
                }
                if strength != Strength::Recorded {
                    for (number, times) in &effects {
                        assert_eq!(*times, 1, "order {number} was placed more than once");
                    }
                }
                effects.iter().map(|(_, times)| times - 1).sum()
            }
        }
    };
}

shop!(sqlx::Postgres);
shop!(sqlx::MySql);
shop!(sqlx::Sqlite);

/// It was not done, or nobody knows.
#[derive(Debug)]
pub(crate) struct Failed;

impl From<StoreError> for Failed {
    fn from(_: StoreError) -> Self {
        Self
    }
}

impl From<CompleteError> for Failed {
    fn from(_: CompleteError) -> Self {
        Self
    }
}

fn told(outcome: &[u8]) -> i64 {
    i64::from_be_bytes(outcome.try_into().unwrap())
}

#[tokio::main(flavor = "current_thread")]
async fn play(role: &Role) {
    let (store, url) = (env::var("STORE").unwrap(), env::var("URL").unwrap());
    let strength = Strength::from_environment();
    let plan = CrashPoint::from_environment().map_or_else(Plan::none, Plan::crash);
    match &*store {
        "postgres" => {
            let pool = sqlx::PgPool::connect(&url).await.unwrap();
            let store = Faulty::new(PostgresStore::new(pool.clone()).unwrap(), plan);
            Shop::<sqlx::Postgres>::new(pool, store, DOLLARS)
                .work(role, strength)
                .await;
        }
        "mysql" => {
            let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
            let store = Faulty::new(MySqlStore::new(pool.clone()).unwrap(), plan);
            Shop::<sqlx::MySql>::new(pool, store, MARKS)
                .work(role, strength)
                .await;
        }
        _ => {
            let (writer, store) = open(&url);
            let (pool, store) = (writer.pool().clone(), Faulty::new(store, plan));
            Shop::<sqlx::Sqlite>::new(pool, store, MARKS)
                .work(role, strength)
                .await;
        }
    }
}

#[test]
fn worker_role() {
    if let Some(role) = role("worker") {
        play(&role);
    }
}

fn worker(store: &str, url: &str, strength: Strength) -> buttress_testkit::child::Spawn {
    Child::role("worker", "killed::worker_role")
        .environment("STORE", store)
        .environment("URL", url)
        .environment("STRENGTH", format!("{strength:?}"))
}

/// Keeps four at work, and kills one after another.
async fn kill_many(store: &str, url: &str, strength: Strength, kills: u32) {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut workers: Vec<_> = (0..4)
        .map(|_| worker(store, url, strength).spawn())
        .collect();
    for kill in 0..kills as usize {
        let one = &mut workers[kill % 4];
        one.until("working").await;
        one.kill_within(Duration::ZERO..Duration::from_millis(30), &mut rng)
            .await;
        *one = worker(store, url, strength).spawn();
    }
}

/// The kills of one strength in a run.
fn kills(strengths: u32) -> u32 {
    short_or_long(100, 3000) / strengths
}

#[tokio::test]
async fn on_postgres_a_hundred_kills_leave_one_effect_a_key() {
    let _tally = buttress_testkit::tally::suite("ID1 ID2 X5");
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let shop = Shop::<sqlx::Postgres>::new(on.pool.clone(), on.store.clone(), DOLLARS);
    shop.open().await;
    for strength in Strength::ALL {
        kill_many("postgres", on.database.url(), strength, kills(3)).await;
        let again = shop.finish(strength).await;
        assert!(
            again <= i64::from(kills(3)),
            "{strength:?}: {again} effects too many"
        );
        for sql in EMPTY {
            sqlx::query(sql).execute(&on.pool).await.unwrap();
        }
    }
    drop(shop);
    on.close().await;
}

#[tokio::test]
async fn on_mysql_a_hundred_kills_leave_one_effect_a_key() {
    let _tally = buttress_testkit::tally::suite("ID1 ID2 X5");
    let Some(on) = OnMySql::start().await else {
        return;
    };
    let shop = Shop::<sqlx::MySql>::new(on.pool.clone(), on.store.clone(), MARKS);
    shop.open().await;
    for strength in [Strength::Recorded, Strength::Completed] {
        kill_many("mysql", on.database.url(), strength, kills(2)).await;
        let again = shop.finish(strength).await;
        assert!(
            again <= i64::from(kills(2)),
            "{strength:?}: {again} effects too many"
        );
        for sql in EMPTY {
            sqlx::query(sql).execute(&on.pool).await.unwrap();
        }
    }
    drop(shop);
    on.close().await;
}

#[tokio::test]
async fn on_sqlite_a_hundred_kills_leave_one_effect_a_key() {
    let _tally = buttress_testkit::tally::suite("ID1 ID2 X5");
    let on = OnSqlite::start().await;
    let pool = on.writer.pool().clone();
    let shop = Shop::<sqlx::Sqlite>::new(pool.clone(), on.store.clone(), MARKS);
    shop.open().await;
    let file = on.folder.path().join("test.db");
    for strength in Strength::ALL {
        kill_many("sqlite", file.to_str().unwrap(), strength, kills(3)).await;
        let again = shop.finish(strength).await;
        assert!(
            again <= i64::from(kills(3)),
            "{strength:?}: {again} effects too many"
        );
        for sql in EMPTY {
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
    }
}
