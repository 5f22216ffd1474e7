//! Work in phases, killed between any two steps of it and around every operation of the store.

use std::env;

use buttress_idempotency::{
    Begin, Idempotency, PhaseError, ScopedKey,
    store::{MySqlStore, PostgresStore, Store},
};
use buttress_store::{Deadline, Guarded, SqlDatabase, StoreError};
use buttress_testkit::{
    child::{Child, Role, role},
    eventually,
    fault::{CrashPoint, Plan, crash_points},
};
use sqlx::Pool;
use tokio::time::timeout;

use super::{Failed, handle};
use crate::{
    phases::{Bug, Buggy},
    stand::{ASKED, Faulty, OnMySql, OnPostgres, OnSqlite, SECOND, key, open, sql},
};

const TABLES: [&str; 3] = [
    "CREATE TABLE rides (number BIGINT, token BIGINT)",
    "CREATE TABLE charges (number BIGINT, token VARCHAR(64))",
    "CREATE TABLE receipts (number BIGINT, token VARCHAR(64))",
];

/// Where it is killed: between any two steps.
const POINTS: [&str; 8] = [
    "begun",
    "ride written",
    "ride passed",
    "ride committed",
    "charged",
    "charge passed",
    "receipt written",
    "completed",
];

/// A ride is written here, charged somewhere else, and a receipt is written with the answer.
pub(crate) struct Rides<DB: SqlDatabase> {
    pub(crate) pool: Pool<DB>,
    pub(crate) idempotency: Idempotency,
}

impl From<PhaseError> for Failed {
    fn from(_: PhaseError) -> Self {
        Self
    }
}

impl<DB: SqlDatabase> Rides<DB>
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    pub(crate) fn new(pool: Pool<DB>, store: impl Store + 'static) -> Self {
        let idempotency = handle(store);
        Self { pool, idempotency }
    }

    pub(crate) async fn open(&self) {
        for table in TABLES {
            let mut connection = self.pool.acquire().await.unwrap();
            let create = sqlx::query::<DB>(table);
            create.execute(&mut *connection).await.unwrap();
        }
    }

    async fn write(connection: &mut DB::Connection, text: String) -> Result<(), StoreError> {
        let write = sqlx::query::<DB>(sql(text));
        let done = write.execute(connection).await;
        done.map_err(StoreError::in_transaction).map(drop)
    }

    /// As a handler would write it. `at` is told each step.
    pub(crate) async fn ride(
        &self,
        number: usize,
        at: &(impl Fn(&'static str) + Sync),
    ) -> Result<Option<String>, Failed> {
        let deadline = || Deadline::after(Deadline::SQL);
        let begun = self.idempotency.begin(&ride_key(number), &ASKED).await;
        let mut guard = match begun.map_err(|_| Failed)? {
            Begin::New(guard) => guard,
            Begin::Replay(outcome) => {
                return Ok(Some(String::from_utf8(outcome.to_vec()).unwrap()));
            }
            _ => return Ok(None),
        };
        at("begun");
        let token: i64 = match guard.passed("ride")? {
            Some(token) => token,
            None => {
                let token: u32 = rand::random();
                let mut transaction = Guarded::begin(&self.pool, deadline()).await?;
                let text = format!("INSERT INTO rides VALUES ({number}, {token})");
                Self::write(&mut transaction, text).await?;
                at("ride written");
                guard.phase_in(&mut *transaction, "ride", &token).await?;
                at("ride passed");
                transaction.commit().await?;
                at("ride committed");
                token.into()
            }
        };
        let charge: String = match guard.passed("charge")? {
            Some(charge) => charge,
            None => {
                let charge = guard.derived_key("charge");
                let mut elsewhere = self.pool.acquire().await.map_err(|_| Failed)?;
                let text = format!("INSERT INTO charges VALUES ({number}, '{charge}')");
                Self::write(&mut elsewhere, text).await?;
                drop(elsewhere);
                at("charged");
                guard.phase("charge", &charge).await?;
                at("charge passed");
                charge
            }
        };
        let answer = format!("ride {token}, charge {charge}");
        let mut transaction = Guarded::begin(&self.pool, deadline()).await?;
        let text = format!("INSERT INTO receipts VALUES ({number}, '{charge}')");
        Self::write(&mut transaction, text).await?;
        at("receipt written");
        let done = guard.complete_in(&mut *transaction, answer.clone()).await?;
        transaction.commit().await?;
        done.fire();
        at("completed");
        Ok(Some(answer))
    }

    async fn finish(&self, number: usize) -> String {
        eventually("it can be finished", 30 * SECOND, async || {
            self.ride(number, &|_| ()).await.ok().flatten()
        })
        .await
    }

    /// How many rows of the ride a table has, and how many different tokens.
    pub(crate) async fn count(&self, table: &str, number: usize) -> (i64, i64) {
        let text =
            format!("SELECT COUNT(*), COUNT(DISTINCT token) FROM {table} WHERE number = {number}");
        let mut connection = self.pool.acquire().await.unwrap();
        let count = sqlx::query_as::<DB, (i64, i64)>(sql(text));
        count.fetch_one(&mut *connection).await.unwrap()
    }

    /// After whatever happened: one ride, one charge, one receipt, one answer. What is wrong.
    async fn judge(&self, number: usize, charged_again: bool) -> Result<(), String> {
        let (first, second) = (self.finish(number).await, self.finish(number).await);
        if first != second {
            return Err(format!("two answers: {first:?}, {second:?}"));
        }
        for (table, most) in [
            ("rides", 1),
            ("charges", 1 + i64::from(charged_again)),
            ("receipts", 1),
        ] {
            let (rows, tokens) = self.count(table, number).await;
            if !(1..=most).contains(&rows) || tokens != 1 {
                return Err(format!("{rows} {table}, {tokens} different"));
            }
        }
        let mut connection = self.pool.acquire().await.unwrap();
        let text = format!("SELECT token, number FROM rides WHERE number = {number}");
        let ride = sqlx::query_as::<DB, (i64, i64)>(sql(text));
        let (token, _) = ride.fetch_one(&mut *connection).await.unwrap();
        match first.starts_with(&format!("ride {token}, ")) {
            true => Ok(()),
            false => Err(format!("{first:?} is not about ride {token}")),
        }
    }
}

fn ride_key(number: usize) -> ScopedKey {
    key(&format!("ride {number}"))
}

#[tokio::main(flavor = "current_thread")]
async fn play(role: &Role) {
    let (store, url) = (env::var("STORE").unwrap(), env::var("URL").unwrap());
    let number = env::var("NUMBER").unwrap().parse().unwrap();
    let point = env::var("POINT").unwrap_or_default();
    let plan = CrashPoint::from_environment().map_or_else(Plan::none, Plan::crash);
    let at = |here: &'static str| {
        if here == point {
            role.wait_at(here);
        }
    };
    match &*store {
        "postgres" | "loose" => {
            let pool = sqlx::PgPool::connect(&url).await.unwrap();
            let inside = PostgresStore::new(pool.clone()).unwrap();
            let rides = match &*store {
                "loose" => Rides::new(pool, Buggy(Bug::Loose, inside)),
                _ => Rides::new(pool, Faulty::new(inside, plan)),
            };
            drop(rides.ride(number, &at).await);
        }
        "mysql" => {
            let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
            let store = Faulty::new(MySqlStore::new(pool.clone()).unwrap(), plan);
            drop(Rides::new(pool, store).ride(number, &at).await);
        }
        _ => {
            let (writer, store) = open(&url);
            let (pool, store) = (writer.pool().clone(), Faulty::new(store, plan));
            drop(Rides::new(pool, store).ride(number, &at).await);
        }
    }
}

#[test]
fn rider_role() {
    if let Some(role) = role("rider") {
        play(&role);
    }
}

fn rider(store: &str, url: &str, number: usize) -> buttress_testkit::child::Spawn {
    Child::role("rider", "killed::phases::rider_role")
        .environment("STORE", store)
        .environment("URL", url)
        .environment("NUMBER", number.to_string())
}

/// Killed at each point; aborted before and after each operation of the store.
async fn kill_everywhere<DB: SqlDatabase>(rides: &Rides<DB>, store: &str, url: &str)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    rides.open().await;
    for (number, point) in POINTS.into_iter().enumerate() {
        let mut child = rider(store, url, number)
            .environment("POINT", point)
            .spawn();
        child.until(point).await;
        child.kill();
        let judged = rides.judge(number, point == "charged").await;
        assert_eq!(judged, Ok(()), "killed when it had {point}");
    }
    // begin, ride, charge, complete
    for (number, point) in crash_points(4).enumerate() {
        let number = 100 + number;
        let spawn = rider(store, url, number);
        let mut child = spawn
            .environment(CrashPoint::VARIABLE, point.to_string())
            .spawn();
        // A heartbeat is an operation too: then the end of it is met sooner, or never.
        let _ = timeout(20 * SECOND, child.end()).await;
        let judged = rides.judge(number, true).await;
        assert_eq!(judged, Ok(()), "aborted {point}");
    }
}

#[tokio::test]
async fn killed_anywhere_on_postgres_each_phase_is_done_once() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let rides = Rides::new(on.pool.clone(), on.store.clone());
    kill_everywhere(&rides, "postgres", on.database.url()).await;
    drop(rides);
    on.close().await;
}

#[tokio::test]
async fn killed_anywhere_on_mysql_each_phase_is_done_once() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    let rides = Rides::new(on.pool.clone(), on.store.clone());
    kill_everywhere(&rides, "mysql", on.database.url()).await;
    drop(rides);
    on.close().await;
}

#[tokio::test]
async fn killed_anywhere_on_sqlite_each_phase_is_done_once() {
    let on = OnSqlite::start().await;
    let rides = Rides::new(on.writer.pool().clone(), on.store.clone());
    let file = on.folder.path().join("test.db");
    kill_everywhere(&rides, "sqlite", file.to_str().unwrap()).await;
}

/// The planted bug: what was passed is committed by itself, and not with the phase's writes.
#[tokio::test]
async fn a_phase_that_is_stored_without_its_writes_is_found() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let rides = Rides::new(on.pool.clone(), on.store.clone());
    rides.open().await;
    let child = rider("loose", on.database.url(), 1);
    let mut child = child.environment("POINT", "ride passed").spawn();
    child.until("ride passed").await;
    child.kill();
    let finished = rides.finish(1);
    assert!(timeout(60 * SECOND, finished).await.is_ok());
    assert_eq!(
        rides.count("rides", 1).await.0,
        0,
        "it is skipped and was lost"
    );
    drop(rides);
    on.close().await;
}
