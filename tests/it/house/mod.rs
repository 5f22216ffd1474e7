//! A small house: what an order is when all the crates that write into a database write it in one
//! transaction, and who works on it afterwards.

mod work;

use std::{error::Error, time::Duration};

use buttress_idempotency::{
    Abandoned, Begin, Fingerprint, Idempotency, Key, Policy, Scope, ScopedKey, store as keys,
};
use buttress_outbox::{Inbox, Message, Outbox, OutboxStore};
use buttress_rate_limiter::{Quota, SharedRateLimiter, store as limits};
use buttress_saga::{Saga, Sagas, StartOptions, store as sagas};
use buttress_store::{
    Deadline, Gate, Guarded, Isolation, LeaseTerms,
    sqlite::{Writer, options},
};
use sqlx::{
    AssertSqlSafe, MySqlPool, PgPool, Row as _,
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

pub(crate) type Trouble = Box<dyn Error + Send + Sync>;

pub(crate) const TOPIC: &str = "orders";
/// After an outage everybody looks again this soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a test may choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// So long is held what a dead process held.
    pub(crate) lease: Duration,
    /// How long the first step of an order's saga takes.
    pub(crate) look: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(1),
            look: Duration::ZERO,
        }
    }
}

/// Where an order is on its way into the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Begun,
    Claimed,
    Ordered,
    Started,
    Told,
    Completed,
    Committed,
}

impl At {
    pub(crate) const ALL: [Self; 7] = [
        Self::Begun,
        Self::Claimed,
        Self::Ordered,
        Self::Started,
        Self::Told,
        Self::Completed,
        Self::Committed,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Claimed => "claimed",
            Self::Ordered => "ordered",
            Self::Started => "started",
            Self::Told => "told",
            Self::Completed => "completed",
            Self::Committed => "committed",
        }
    }
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    Now,
    /// It was there already: its outcome was replayed.
    Before,
    /// Somebody else has its key.
    InFlight,
    /// It was rolled back, as was wanted.
    Not,
}

/// How many of each there are, over all orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) keys: i64,
    pub(crate) orders: i64,
    pub(crate) sagas: i64,
    pub(crate) messages: i64,
}

impl Totals {
    pub(crate) const fn all(count: i64) -> Self {
        Self {
            keys: count,
            orders: count,
            sagas: count,
            messages: count,
        }
    }
}

#[derive(Clone)]
pub(crate) enum Pool {
    Postgres(PgPool),
    MySql(MySqlPool),
    Sqlite(Writer),
}

/// The same for each kind of pool.
macro_rules! each {
    ($pool:expr, $it:ident => $body:expr) => {
        match $pool {
            $crate::house::Pool::Postgres($it) => $body,
            $crate::house::Pool::MySql($it) => $body,
            $crate::house::Pool::Sqlite(writer) => {
                let $it = writer.pool();
                $body
            }
        }
    };
}

/// What writes and what works, on one database.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) pool: Pool,
    pub(crate) keys: Idempotency,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) sagas: Sagas,
    pub(crate) saga: Saga<i64>,
    /// One an hour, for each key.
    pub(crate) limiter: SharedRateLimiter,
    terms: Terms,
}

impl House {
    /// Connects, and makes or migrates all tables.
    pub(crate) async fn open(url: &str) -> Result<Self, Trouble> {
        Self::open_with(url, Terms::default()).await
    }

    pub(crate) async fn open_with(url: &str, terms: Terms) -> Result<Self, Trouble> {
        let house = Self::connect_with(url, terms)?;
        house.migrate().await?;
        house.furnish().await?;
        Ok(house)
    }

    /// Connects at first use, and changes nothing.
    pub(crate) fn connect(url: &str) -> Result<Self, Trouble> {
        Self::connect_with(url, Terms::default())
    }

    fn connect_with(url: &str, terms: Terms) -> Result<Self, Trouble> {
        let gate = || Gate::sql().with_longest_pause(LONGEST_PAUSE);
        let policy = Policy::builder()
            .lease(LeaseTerms::new(terms.lease)?)
            .abandoned(Abandoned::Release)
            .build()?;
        let hourly = || Quota::per(1, Duration::from_secs(3600));
        let (pool, keys, store, sagas, limiter) = match url.split(':').next() {
            Some("postgres") => {
                let pool = PgPoolOptions::new().acquire_timeout(Deadline::SQL);
                let pool = pool.connect_lazy_with(url.parse()?);
                (
                    Pool::Postgres(pool.clone()),
                    Idempotency::builder(
                        keys::PostgresStore::new(pool.clone())?.with_gate(gate()?),
                    ),
                    OutboxStore::postgres(pool.clone())?,
                    Sagas::new(sagas::PostgresStore::new(pool.clone())?.with_gate(gate()?)),
                    SharedRateLimiter::new("house", hourly()?, limits::PostgresStore::new(pool)?)?,
                )
            }
            Some("mysql") => {
                let pool = MySqlPoolOptions::new().acquire_timeout(Deadline::SQL);
                let pool = pool.connect_lazy_with(url.parse()?);
                (
                    Pool::MySql(pool.clone()),
                    Idempotency::builder(keys::MySqlStore::new(pool.clone())?.with_gate(gate()?)),
                    OutboxStore::mysql(pool.clone())?,
                    Sagas::new(sagas::MySqlStore::new(pool.clone())?.with_gate(gate()?)),
                    SharedRateLimiter::new("house", hourly()?, limits::MySqlStore::new(pool)?)?,
                )
            }
            _ => {
                buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
                let wanted: SqliteConnectOptions = url.parse()?;
                let pool = SqlitePoolOptions::new().max_connections(4);
                let pool = pool.connect_lazy_with(options(wanted.get_filename()));
                let writer = Writer::new(pool);
                let tables = buttress_store::Tables::default();
                let sagas = sagas::SqliteStore::with_tables(writer.clone(), &tables)?;
                (
                    Pool::Sqlite(writer.clone()),
                    Idempotency::builder(
                        keys::SqliteStore::new(writer.clone())?.with_gate(gate()?),
                    ),
                    OutboxStore::sqlite(writer.clone())?,
                    Sagas::new(sagas.with_gate(gate()?)),
                    SharedRateLimiter::new("house", hourly()?, limits::SqliteStore::new(writer)?)?,
                )
            }
        };
        Ok(Self {
            saga: work::saga(&pool, terms.look)?,
            terms,
            keys: keys.policy(policy).build(),
            inbox: Inbox::new(store.clone(), "house")?,
            outbox: Outbox::new(store),
            sagas,
            limiter,
            pool,
        })
    }

    /// Makes the tables of its own, where they are missing.
    pub(crate) async fn furnish(&self) -> Result<(), Trouble> {
        for table in ["orders", "charges", "heard"] {
            let create = format!("CREATE TABLE IF NOT EXISTS {table} (id BIGINT NOT NULL)");
            self.run(&create).await?;
        }
        Ok(())
    }

    /// Brings all tables to what they are today.
    pub(crate) async fn migrate(&self) -> Result<(), Trouble> {
        match &self.pool {
            Pool::Postgres(pool) => {
                keys::PostgresStore::new(pool.clone())?.migrate().await?;
                sagas::PostgresStore::new(pool.clone())?.migrate().await?;
                limits::PostgresStore::new(pool.clone())?.migrate().await?;
            }
            Pool::MySql(pool) => {
                keys::MySqlStore::new(pool.clone())?.migrate().await?;
                sagas::MySqlStore::new(pool.clone())?.migrate().await?;
                limits::MySqlStore::new(pool.clone())?.migrate().await?;
            }
            Pool::Sqlite(writer) => {
                keys::SqliteStore::new(writer.clone())?.migrate().await?;
                let tables = buttress_store::Tables::default();
                let sagas = sagas::SqliteStore::with_tables(writer.clone(), &tables)?;
                sagas.migrate().await?;
                limits::SqliteStore::new(writer.clone())?.migrate().await?;
            }
        }
        self.outbox.store().migrate().await?;
        Ok(())
    }

    /// Places the order `number` under its key. `at` is asked between all statements whether to go
    /// on; otherwise everything is rolled back.
    pub(crate) async fn place(
        &self,
        number: i64,
        mut at: impl AsyncFnMut(At) -> bool,
    ) -> Result<Placed, Trouble> {
        let (key, asked) = (self.key(number), Fingerprint::new(1, [1; 32]));
        let deadline = Deadline::after(Deadline::SQL);
        // The same statements on each; what differs is when the key is claimed.
        macro_rules! place {
            ($begin:expr, $claim:expr) => {{
                let mut tx = $begin;
                let mut goes_on = at(At::Begun).await;
                let guard = match $claim(&mut tx).await? {
                    Begin::New(guard) => guard,
                    Begin::Replay(_) => return Ok(Placed::Before),
                    _ => return Ok(Placed::InFlight),
                };
                goes_on = goes_on && at(At::Claimed).await;
                let order = format!("INSERT INTO orders (id) VALUES ({number})");
                sqlx::raw_sql(AssertSqlSafe(order))
                    .execute(&mut *tx)
                    .await?;
                goes_on = goes_on && at(At::Ordered).await;
                let options = StartOptions::new().key(number.to_string());
                let started = self.sagas.start_in(&mut *tx, &self.saga, &number, options);
                let (_, started) = started.await?;
                goes_on = goes_on && at(At::Started).await;
                let told = self.outbox.append_in(&mut *tx, &message(number)?).await?;
                goes_on = goes_on && at(At::Told).await;
                let completed = guard.complete_in(&mut *tx, number.to_string()).await?;
                goes_on = goes_on && at(At::Completed).await;
                if !goes_on {
                    tx.rollback().await?;
                    return Ok(Placed::Not);
                }
                tx.commit().await?;
                completed.and(started).and(told).fire();
                at(At::Committed).await;
                Ok(Placed::Now)
            }};
        }
        match &self.pool {
            Pool::Postgres(pool) => place!(
                Guarded::begin(pool, deadline).await?,
                async |tx: &mut Guarded<sqlx::Postgres>| {
                    self.keys.begin_in(&mut **tx, &key, &asked).await
                }
            ),
            Pool::Sqlite(writer) => {
                place!(writer.begin(deadline).await?, async |tx: &mut Guarded<
                    sqlx::Sqlite,
                >| {
                    self.keys.begin_in(&mut **tx, &key, &asked).await
                })
            }
            // In a commit of its own: there a second claim would wait for the first's transaction.
            Pool::MySql(pool) => place!(
                Guarded::begin_at(Isolation::ReadCommitted, pool, deadline).await?,
                async |_: &mut Guarded<sqlx::MySql>| self.keys.begin(&key, &asked).await
            ),
        }
    }

    /// Places the order `number` as often as it takes.
    pub(crate) async fn surely(&self, number: i64) -> Placed {
        let claim = format!("order {number} is placed");
        buttress_testkit::eventually::eventually_as(&claim, PATIENCE, async || {
            match self.place(number, async |_| true).await {
                Ok(Placed::InFlight | Placed::Not) => Err("in flight".to_owned()),
                Ok(placed) => Ok(placed),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    pub(crate) fn key(&self, number: i64) -> ScopedKey {
        let key = Key::new(number.to_string());
        Scope::of(["orders"]).key(&key.unwrap())
    }

    /// Runs SQL without results.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        each!(&self.pool, pool => sqlx::raw_sql(sql).execute(pool).await.map(drop))
    }

    /// The one number that `sql` is about.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        each!(&self.pool, pool => sqlx::query(sql).fetch_one(pool).await?.try_get(0))
    }

    /// How many of each there are. To be asked before anybody works on them.
    pub(crate) async fn totals(&self) -> Totals {
        let count = async |what: &str| {
            let sql = format!("SELECT COUNT(*) FROM {what}");
            self.number(&sql).await.unwrap()
        };
        Totals {
            // Those that only claim nothing yet.
            keys: count("buttress_idempotency WHERE state = 2").await,
            orders: count("orders").await,
            sagas: count("buttress_saga").await,
            messages: count("buttress_outbox").await,
        }
    }

    /// What is wrong with the house when its work is done: each order has one charge, one message
    /// that was heard, and a saga that is completed; and there is nothing else.
    pub(crate) async fn wrong(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (what, sql) in [
            ("sagas are not completed", "buttress_saga WHERE state <> 2"),
            ("messages are left", "buttress_outbox"),
            ("messages are dead", "buttress_outbox_dead"),
            (
                "orders are there twice",
                "(SELECT id FROM orders GROUP BY id HAVING COUNT(*) > 1) twice",
            ),
            (
                "orders have not one charge",
                "orders WHERE (SELECT COUNT(*) FROM charges WHERE charges.id = orders.id) <> 1",
            ),
            (
                "orders were not heard of once",
                "orders WHERE (SELECT COUNT(*) FROM heard WHERE heard.id = orders.id) <> 1",
            ),
            (
                "charges are nobody's",
                "charges WHERE id NOT IN (SELECT id FROM orders)",
            ),
            (
                "messages are about nothing",
                "heard WHERE id NOT IN (SELECT id FROM orders)",
            ),
        ] {
            let sql = format!("SELECT COUNT(*) FROM {sql}");
            let count = self.number(&sql).await.map_err(|error| error.to_string())?;
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join(", "))
        }
    }

    pub(crate) async fn close(self) {
        each!(&self.pool, pool => pool.close().await);
    }
}

/// What others are told of the order.
pub(crate) fn message(number: i64) -> Result<Message, Trouble> {
    let message = Message::builder(TOPIC, "/house", "order.placed");
    Ok(message.key(number.to_string()).json(&number).build()?)
}

/// A database of its own for a test.
pub(crate) enum Database {
    Sqlite(tempfile::TempDir),
    Postgres(buttress_testkit::postgres::Database),
    MySql(buttress_testkit::mysql::Database),
}

impl Database {
    /// SQLite, and the servers that are there.
    pub(crate) async fn each() -> Vec<Self> {
        let mut each = vec![Self::Sqlite(tempfile::tempdir().unwrap())];
        each.extend(Self::servers().await);
        each
    }

    pub(crate) async fn servers() -> Vec<Self> {
        let postgres = buttress_testkit::postgres::fresh_database().await;
        let mysql = buttress_testkit::mysql::fresh_database().await;
        let postgres = postgres.map(Self::Postgres).into_iter();
        postgres.chain(mysql.map(Self::MySql)).collect()
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("h.db").display()),
            Self::Postgres(database) => database.url().to_owned(),
            Self::MySql(database) => database.url().to_owned(),
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(database) => database.close().await.unwrap(),
            Self::MySql(database) => database.close().await.unwrap(),
        }
    }
}
