//! What a checker needs of a database, the same on each: business rows, a destination that writes
//! down what it hears, and effects behind an inbox.
//!
//! Each key's business row has a version that grows with each committed change, under the row's
//! lock; the message says which version. So what must be delivered is known exactly: of each key 1
//! to the version, in order, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use buttress_outbox::{Delivery, Inbox, Message, Outbox, PublishError, Publisher, Taken};
use buttress_store::{Deadline, Dialect, Guarded, SqlDatabase, StoreError};
use sqlx::{MySql, Pool, Postgres, Sqlite};
use tokio::time::timeout;

pub(crate) const TOPIC: &str = "orders";

/// Statements with `?` for MySQL and SQLite, and the same with `$n` for PostgreSQL.
type Sql = (&'static str, &'static str);

const CREATE: &str = "CREATE TABLE business (k BIGINT PRIMARY KEY, version BIGINT NOT NULL)";
const CREATE_EFFECTS: &str = "CREATE TABLE effects (k BIGINT PRIMARY KEY, times BIGINT NOT NULL)";
const HEARD: (&str, &str, &str) = (
    "CREATE TABLE heard (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k BIGINT NOT NULL, version BIGINT NOT NULL)",
    "CREATE TABLE heard (seq BIGINT AUTO_INCREMENT PRIMARY KEY, k BIGINT NOT NULL, version BIGINT NOT NULL)",
    "CREATE TABLE heard (seq INTEGER PRIMARY KEY AUTOINCREMENT, k BIGINT NOT NULL, version BIGINT NOT NULL)",
);
const FILL: Sql = (
    "INSERT INTO business (k, version) VALUES (?, ?)",
    "INSERT INTO business (k, version) VALUES ($1, $2)",
);
const FILL_EFFECTS: Sql = (
    "INSERT INTO effects (k, times) VALUES (?, ?)",
    "INSERT INTO effects (k, times) VALUES ($1, $2)",
);
const BUMP: Sql = (
    "UPDATE business SET version = version + ? WHERE k = ?",
    "UPDATE business SET version = version + $1 WHERE k = $2",
);
const VERSION: Sql = (
    "SELECT version FROM business WHERE k = ?",
    "SELECT version FROM business WHERE k = $1",
);
const HEAR: Sql = (
    "INSERT INTO heard (k, version) VALUES (?, ?)",
    "INSERT INTO heard (k, version) VALUES ($1, $2)",
);
const EFFECT: Sql = (
    "UPDATE effects SET times = times + ? WHERE k = ?",
    "UPDATE effects SET times = times + $1 WHERE k = $2",
);

/// The few statements, on each database.
pub(crate) trait Lab: SqlDatabase {
    fn run(
        connection: &mut Self::Connection,
        sql: &'static str,
        binds: &[i64],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    fn one(
        connection: &mut Self::Connection,
        sql: &'static str,
        bind: i64,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
    fn pairs(
        pool: &Pool<Self>,
        sql: &'static str,
    ) -> impl Future<Output = Result<Vec<(i64, i64)>, sqlx::Error>> + Send;
}

macro_rules! lab {
    ($database:ty) => {
        impl Lab for $database {
            async fn run(
                connection: &mut Self::Connection,
                sql: &'static str,
                binds: &[i64],
            ) -> Result<(), sqlx::Error> {
                let mut query = sqlx::query(sql);
                for bind in binds {
                    query = query.bind(*bind);
                }
                query.execute(connection).await.map(drop)
            }

            async fn one(
                connection: &mut Self::Connection,
                sql: &'static str,
                bind: i64,
            ) -> Result<i64, sqlx::Error> {
                let query = sqlx::query_scalar(sql).bind(bind);
                query.fetch_one(connection).await
            }

            async fn pairs(
                pool: &Pool<Self>,
                sql: &'static str,
            ) -> Result<Vec<(i64, i64)>, sqlx::Error> {
                sqlx::query_as(sql).fetch_all(pool).await
            }
        }
    };
}

lab!(Postgres);
lab!(MySql);
lab!(Sqlite);

fn of<DB: Lab>(sql: Sql) -> &'static str {
    if DB::DIALECT == Dialect::Postgres {
        sql.1
    } else {
        sql.0
    }
}

pub(crate) async fn begin<DB: Lab>(pool: &Pool<DB>) -> Result<Guarded<DB>, StoreError> {
    Guarded::begin(pool, Deadline::after(Deadline::SQL)).await
}

/// Makes the tables, with that many keys.
pub(crate) async fn furnish<DB: Lab>(pool: &Pool<DB>, keys: i64) {
    let mut transaction = begin(pool).await.unwrap();
    let heard = match DB::DIALECT {
        Dialect::Postgres => HEARD.0,
        Dialect::MySql => HEARD.1,
        _ => HEARD.2,
    };
    for sql in [CREATE, CREATE_EFFECTS, heard] {
        DB::run(&mut transaction, sql, &[]).await.unwrap();
    }
    for key in 0..keys {
        for sql in [FILL, FILL_EFFECTS] {
            let sql = of::<DB>(sql);
            DB::run(&mut transaction, sql, &[key, 0]).await.unwrap();
        }
    }
    transaction.commit().await.unwrap();
}

/// One change of business, and its message, in one transaction. `hold` runs before its end, and
/// says whether it is committed.
pub(crate) async fn change<DB: Lab>(
    pool: &Pool<DB>,
    outbox: &Outbox,
    key: i64,
    hold: impl Future<Output = bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut transaction = begin(pool).await?;
    DB::run(&mut transaction, of::<DB>(BUMP), &[1, key]).await?;
    let version = DB::one(&mut transaction, of::<DB>(VERSION), key).await?;
    let message = Message::builder(TOPIC, "/lab", "changed").key(key.to_string());
    let message = message.json(&(key, version)).build()?;
    let wake = outbox.append_in(&mut *transaction, &message).await?;
    if hold.await {
        transaction.commit().await?;
        wake.fire();
    } else {
        transaction.rollback().await?;
    }
    Ok(())
}

/// The destination: it writes down what it hears, and behind it a consumer takes each message
/// once.
pub(crate) struct Destination<DB: Lab> {
    pub(crate) pool: Pool<DB>,
    pub(crate) inbox: Inbox,
}

impl<DB: Lab> Destination<DB> {
    /// What a consumer does with a message's payload, under the id by which it takes it once.
    pub(crate) async fn hear(
        &self,
        payload: &[u8],
        id: &str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (key, version): (i64, i64) = serde_json::from_slice(payload)?;
        let mut transaction = begin(&self.pool).await?;
        DB::run(&mut transaction, of::<DB>(HEAR), &[key, version]).await?;
        transaction.commit().await?;
        let mut transaction = begin(&self.pool).await?;
        if self.inbox.take_in(&mut *transaction, id).await? == Taken::First {
            DB::run(&mut transaction, of::<DB>(EFFECT), &[1, key]).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl<DB: Lab> Publisher for Destination<DB> {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let mut answers = Vec::new();
        for delivery in batch {
            // sqlx has no deadline of its own: on a connection that the server ended, a query may
            // wait for ever.
            let message = delivery.message();
            let hearing = self.hear(message.payload(), message.id());
            let heard = timeout(Duration::from_secs(2), hearing).await;
            let heard = heard.is_ok_and(|heard| heard.is_ok());
            let down = || PublishError::down("its database");
            answers.push(if heard { Ok(()) } else { Err(down()) });
        }
        answers
    }
}

/// What was seen, where all is well.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) committed: i64,
    pub(crate) duplicates: usize,
}

/// Whether every committed message was delivered, no other one was, each key's in order, and the
/// effect of each was had exactly once.
pub(crate) async fn check<DB: Lab>(pool: &Pool<DB>, with_effects: bool) -> Result<Seen, String> {
    let business = DB::pairs(pool, "SELECT k, version FROM business").await;
    let business: BTreeMap<i64, i64> = business.unwrap().into_iter().collect();
    let heard = DB::pairs(pool, "SELECT k, version FROM heard ORDER BY seq").await;
    let effects = DB::pairs(pool, "SELECT k, times FROM effects").await;
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    let mut duplicates = 0;
    for (key, version) in heard.unwrap() {
        let last = last.entry(key).or_default();
        if version == *last + 1 {
            *last = version;
        } else if version <= *last {
            duplicates += 1;
        } else {
            return Err(format!("key {key}: {version} was heard after {last}"));
        }
    }
    for (key, version) in &business {
        let last = last.get(key).copied().unwrap_or_default();
        if last != *version {
            return Err(format!("key {key}: {version} were committed, {last} heard"));
        }
    }
    for (key, times) in effects.unwrap() {
        if with_effects && business.get(&key) != Some(&times) {
            return Err(format!("key {key}: {times} effects of {business:?}"));
        }
    }
    Ok(Seen {
        committed: business.values().sum(),
        duplicates,
    })
}
