//! What must not be shown: passwords, bound values and rows, by anything that says something.

use std::{
    error::Error,
    fmt::Debug,
    io,
    sync::{Arc, Mutex},
};

use ::redis::{Client, ErrorKind, RedisError};
use buttress_core::{Chain, Clock, Fault as _};
use buttress_store::{
    AfterCommit, Claim, Deadline, Fence, Gate, Guarded, Key, LeaseTerms, Loan, MigrateError,
    Migrations, Phase, RedisConnection, RedisKeys, Script, SqlConnection as _, Statement,
    StoreError, Tables, Token, class, sqlite,
};
use buttress_testkit::{mysql, postgres, redis};
use sqlx::{
    ConnectOptions as _, Connection as _, MySqlConnection, MySqlPool, PgConnection, PgPool,
    SqliteConnection, SqlitePool,
};
use tracing_subscriber::{Layer as _, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _};

use crate::migrate::STEPS;

/// The password, the bound value, the row. Where the URL escapes it, it must not come out either.
const CANARY: &str = "kanarie";
const PHASES: [Phase; 5] = [
    Phase::Connect,
    Phase::Read,
    Phase::InTransaction,
    Phase::Statement,
    Phase::Commit,
];

/// What was said, and how many drivers' errors would have said it.
#[derive(Clone, Default)]
struct Heard {
    log: Arc<Mutex<Vec<u8>>>,
    errors: usize,
    held: usize,
}

impl Heard {
    /// From here on all that our targets say is heard, until the guard is dropped.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let ours = Targets::new().with_target("buttress_store", tracing::Level::TRACE);
        let layer = tracing_subscriber::fmt::layer().with_ansi(false);
        let layer = layer.with_writer(self.clone()).with_filter(ours);
        tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
    }

    fn log(&self) -> String {
        String::from_utf8(self.log.lock().unwrap().clone()).unwrap()
    }

    fn value(&self, what: &str, value: &dyn Debug) {
        for text in [format!("{value:?}"), format!("{value:#?}"), self.log()] {
            assert!(!text.to_lowercase().contains(CANARY), "{what}: {text}");
        }
    }

    fn error(&self, what: &str, error: &(dyn Error + 'static)) {
        self.value(what, &error);
        for text in [error.to_string(), Chain(error).to_string()] {
            assert!(!text.to_lowercase().contains(CANARY), "{what}: {text}");
        }
    }

    fn store(&mut self, what: &str, error: StoreError) {
        self.errors += 1;
        // The chain ends with us, and it is the driver who knows.
        assert!(error.source().is_none(), "{what}");
        let driver = error.driver().unwrap();
        self.held += usize::from(format!("{driver:?} {driver}").contains(CANARY));
        self.error(what, &error);
        self.value(what, &error.code());
        assert!(!error.public_message().contains(CANARY), "{what}");
        self.value(what, &error.verdict());
        self.error(what, &MigrateError::Store(error));
    }

    /// The check can fail: so many of the drivers' errors had it.
    fn held_at_least(&self, least: usize) {
        let (errors, held) = (self.errors, self.held);
        assert!(held >= least, "{held} of {errors}");
    }

    /// In whatever phase it strikes.
    fn sqlx(&mut self, what: &str, error: sqlx::Error) {
        for phase in PHASES {
            self.value(what, &class::of_sqlx(&error, phase));
        }
        self.store(what, StoreError::of_sqlx(error, Phase::Statement));
    }

    fn redis(&mut self, what: &str, error: RedisError) {
        for phase in PHASES {
            self.value(what, &class::of_redis(&error, phase));
        }
        self.store(what, StoreError::of_redis(error, Phase::Statement));
    }
}

impl io::Write for Heard {
    fn write(&mut self, said: &[u8]) -> io::Result<usize> {
        self.log.lock().unwrap().extend_from_slice(said);
        Ok(said.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Heard {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// URLs of all forms, with `scheme`, that lead nowhere or cannot be read.
fn urls(scheme: &str) -> Vec<String> {
    [
        "u:kanarie@127.0.0.1:1/db",
        ":kanarie@127.0.0.1:1/0",
        "u:%6Banarie@127.0.0.1:1/db",
        "u:p%40kanarie%3A@127.0.0.1:1/db",
        "u:kanarie@[::1]:1/db",
        "u@127.0.0.1:1/db?password=kanarie",
        "127.0.0.1:1/db?user=u&password=kanarie",
        "u:kanarie@127.0.0.1:notaport/db",
        "u:kanarie@127.0.0.1:99999/db",
        "u:kanarie@[::1/db",
        "u:kanarie@/db",
        "u:kan/kanarie@127.0.0.1:1/db",
        "u:%ffkanarie@127.0.0.1:1/db",
        "u:kanarie@127.0.0.1:1/db?sslmode=kanarie",
        "u:kanarie@127.0.0.1:1/db?ssl-mode=kanarie",
        "u:kanarie@127.0.0.1:1/db?sslrootcert=/kanarie&sslmode=verify-ca",
        "u:kanarie@127.0.0.1:1/db?statement-cache-capacity=kanarie",
        "u:kanarie@127.0.0.1:1/db?host=/nosuch/kanarie",
        "u:kanarie@127.0.0.1:1/db?protocol=kanarie",
    ]
    .iter()
    .map(|rest| format!("{scheme}://{rest}"))
    .collect()
}

#[test]
fn what_our_targets_say_is_heard() {
    let heard = Heard::default();
    let _listening = heard.listen();
    tracing::trace!(target: "buttress_store::planted", "{CANARY}");
    tracing::trace!(target: "sqlx::query", "another's");
    let log = heard.log();
    assert!(log.contains(CANARY) && !log.contains("another's"), "{log}");
}

#[tokio::test]
async fn a_password_is_not_shown_whatever_the_url() {
    let mut heard = Heard::default();
    let _listening = heard.listen();
    for scheme in ["postgres", "postgresql"] {
        for url in urls(scheme) {
            if let Err(error) = PgConnection::connect(&url).await {
                heard.sqlx(&url, error);
            }
        }
    }
    for scheme in ["mysql", "mariadb"] {
        for url in urls(scheme) {
            if let Err(error) = MySqlConnection::connect(&url).await {
                heard.sqlx(&url, error);
            }
        }
    }
    for url in [
        "sqlite:///nosuch/kanarie.db",
        "sqlite:file.db?mode=kanarie",
        "sqlite:file.db?kanarie=1",
        "sqlite:file.db?vfs=kanarie",
    ] {
        let error = SqliteConnection::connect(url).await.unwrap_err();
        heard.sqlx(url, error);
    }
    for scheme in ["redis", "rediss", "valkey", "redis+unix", "unix", "kanarie"] {
        let mut urls = urls(scheme);
        urls.push(format!("{scheme}:///nosuch/kanarie?pass=kanarie&user=u"));
        urls.push(format!("{scheme}:///nosuch?db=kanarie&pass=kanarie"));
        urls.push(format!("{scheme}://u:kanarie@127.0.0.1:1/kanarie"));
        for url in urls {
            let connected = match Client::open(url.as_str()) {
                Ok(client) => client.get_multiplexed_async_connection().await.map(drop),
                Err(error) => Err(error),
            };
            heard.redis(&url, connected.unwrap_err());
        }
    }
    assert!(heard.errors > 100);
    heard.held_at_least(5);
}

/// One database: what it says of values, and what is said of connections that carry them.
macro_rules! secrets {
    ($check:ident, $pool:ty, $dialect:ident, $one:literal, $extra:expr) => {
        async fn $check(heard: &mut Heard, pool: &$pool) {
            let dialect = buttress_store::Dialect::$dialect;
            let create =
                "CREATE TABLE notes (id BIGINT PRIMARY KEY, who VARCHAR(20) UNIQUE, CHECK (id < 9))";
            sqlx::raw_sql(create).execute(pool).await.unwrap();
            let insert = concat!("INSERT INTO notes (id, who) VALUES (1, ", $one, ")");
            let twice = concat!("INSERT INTO notes (id, who) VALUES (2, ", $one, ")");
            let much = concat!("INSERT INTO notes (id, who) VALUES (10, ", $one, ")");
            let bound = |sql: &'static str| sqlx::query(sql).bind(CANARY);
            bound(insert).execute(pool).await.unwrap();

            // By itself, and within a transaction that is used on.
            for sql in [twice, much] {
                let deadline = Deadline::after(Deadline::SQL);
                let mut loan = Loan::acquire(pool, deadline).await.unwrap();
                let result = bound(sql).execute(&mut *loan).await;
                heard.value("a loan", &loan);
                heard.sqlx(sql, result.unwrap_err());
                let mut transaction = Guarded::begin(pool, deadline).await.unwrap();
                heard.value("a connection that is lent", &transaction.lend());
                let result = bound(sql).execute(&mut *transaction);
                let result = deadline.run(Phase::InTransaction, result).await;
                heard.value("a transaction", &transaction);
                let error = transaction.finish(result).await.unwrap_err();
                heard.store(sql, error);
                let gate = Gate::sql();
                let run = gate.run(async |deadline| {
                    let query = bound(sql).execute(pool);
                    deadline.run(Phase::Statement, query).await
                });
                heard.store(sql, run.await.unwrap_err());
                heard.value("a gate", &gate);
            }
            let extra: &[&'static str] = &$extra;
            for sql in extra.iter().copied().chain([
                "INSERT INTO notes (id, who) VALUES (3, 'kanarie')",
                "SELECT 'kanarie",
                "SELECT kanarie FROM notes",
                "SELECT * FROM kanarie",
                "KANARIE kanarie",
            ]) {
                let error = sqlx::raw_sql(sql).execute(pool).await.unwrap_err();
                heard.sqlx(sql, error);
            }
            // Rows that are read as what they are not.
            let row = sqlx::query("SELECT who FROM notes").fetch_one(pool).await.unwrap();
            for error in [
                sqlx::Row::try_get::<i64, _>(&row, 0).unwrap_err(),
                sqlx::Row::try_get::<i64, _>(&row, CANARY).unwrap_err(),
            ] {
                heard.sqlx("a row", error);
            }
            let migrations = Migrations::new("lanes", STEPS, &Tables::default(), dialect).unwrap();
            heard.error("migrations", &migrations.check(pool).await.unwrap_err());
            heard.value("migrations", &migrations);
        }
    };
}

secrets!(
    on_postgres,
    PgPool,
    Postgres,
    "$1",
    [
        "SELECT CAST(who AS BIGINT) FROM notes",
        "INSERT INTO notes (id, who) VALUES (4, repeat('kanarie', 9))",
        "DO $$ BEGIN RAISE EXCEPTION 'kanarie' USING DETAIL = 'kanarie', HINT = 'kanarie'; END $$",
    ]
);
secrets!(
    on_mariadb,
    MySqlPool,
    MySql,
    "?",
    [
        "INSERT INTO notes (id, who) VALUES ('kanarie', 'x')",
        "INSERT INTO notes (id, who) VALUES (4, REPEAT('kanarie', 9))",
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'kanarie'",
    ]
);
secrets!(
    on_sqlite,
    SqlitePool,
    Sqlite,
    "?",
    ["INSERT INTO notes (id, who) SELECT json('kanarie'), 'x'",]
);

#[tokio::test]
async fn a_value_is_not_shown_on_postgres() {
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let mut heard = Heard::default();
    let _listening = heard.listen();
    let options: sqlx::postgres::PgConnectOptions = database.url().parse().unwrap();
    // The private server trusts its users, and so takes any password.
    let pool = PgPool::connect_with(options.password(CANARY))
        .await
        .unwrap();
    on_postgres(&mut heard, &pool).await;
    pool.close().await;
    heard.held_at_least(10);
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_value_is_not_shown_on_mariadb() {
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let mut heard = Heard::default();
    let _listening = heard.listen();
    let pool = MySqlPool::connect(database.url()).await.unwrap();
    on_mariadb(&mut heard, &pool).await;
    let options: sqlx::mysql::MySqlConnectOptions = database.url().parse().unwrap();
    let refused = options.username(CANARY).password(CANARY).connect().await;
    heard.sqlx("a login that is refused", refused.unwrap_err());
    pool.close().await;
    heard.held_at_least(10);
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_value_is_not_shown_on_sqlite() {
    let mut heard = Heard::default();
    let _listening = heard.listen();
    let folder = tempfile::Builder::new().prefix(CANARY).tempdir().unwrap();
    let options = sqlite::options(folder.path().join("file.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let writer = sqlite::Writer::new(pool.clone());
    heard.value("a writer", &writer);
    on_sqlite(&mut heard, &pool).await;
    pool.close().await;
    let deadline = Deadline::after(Deadline::SQL);
    heard.store("a closed pool", writer.begin(deadline).await.unwrap_err());
    // SQLite names columns and never values: only what we wrote ourselves comes back.
    heard.held_at_least(3);
}

#[tokio::test]
async fn a_value_and_a_password_are_not_shown_on_redis() {
    let server = match redis::Server::start() {
        Ok(server) => server,
        Err(redis::StartError::NotFound(_)) => return, // the other tests say so
        Err(error) => panic!("{error}"),
    };
    let mut heard = Heard::default();
    let _listening = heard.listen();
    let address = server.url();
    let address = address.trim_start_matches("redis://");
    let plain = Client::open(server.url()).unwrap();
    let mut plain = plain.get_multiplexed_async_connection().await.unwrap();
    let mut set = ::redis::cmd("CONFIG");
    set.arg("SET").arg("requirepass").arg(CANARY);
    let () = set.query_async(&mut plain).await.unwrap();
    for wrong in ["", ":another-kanarie@", "u:another-kanarie@"] {
        let client = Client::open(format!("redis://{wrong}{address}")).unwrap();
        let error = match client.get_multiplexed_async_connection().await {
            Err(error) => error,
            Ok(mut open) => ::redis::cmd("PING")
                .query_async::<()>(&mut open)
                .await
                .unwrap_err(),
        };
        heard.redis(wrong, error);
    }
    let client = Client::open(format!("redis://:{CANARY}@{address}")).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let connection = RedisConnection::new(connection);
    heard.value("a connection", &connection);
    let keys = RedisKeys::new("buttress", "test").unwrap();
    let key = [keys.of(&Key::new(CANARY).unwrap())];
    for source in [
        "return redis.call('SET', KEYS[1], ARGV[1], ARGV[1])",
        "return redis.call('INCRBY', KEYS[1], ARGV[1])",
        "error(ARGV[1])",
        "return redis.error_reply(ARGV[1])",
        "return redis.error_reply('ERR ' .. ARGV[1])",
        "return redis.error_reply(ARGV[1] .. ' it is')",
        "return redis.error_reply(string.upper(ARGV[1]) .. ' it is')",
        "return redis.call(ARGV[1])",
        "return ARGV[1]",
    ] {
        let script = Script::new(source);
        heard.value("a script", &script);
        let error = script.run::<i64>(&connection, &key, CANARY).await;
        heard.redis(source, error.unwrap_err());
    }
    heard.redis(
        "a detail",
        RedisError::from((ErrorKind::Io, "an error", CANARY.to_owned())),
    );
    heard.held_at_least(3);
}

#[test]
fn what_is_made_of_hostile_input_does_not_show_it() {
    let heard = Heard::default();
    let _listening = heard.listen();
    let key = Key::new(CANARY).unwrap();
    heard.value("a key", &key);
    heard.error("a key", &Key::bounded(CANARY, 3).unwrap_err());
    let hostile = format!("{CANARY}; DROP TABLE x");
    heard.error(
        "a prefix",
        &Tables::default().with_prefix(&hostile).unwrap_err(),
    );
    heard.error(
        "a schema",
        &Tables::default().in_schema(&hostile).unwrap_err(),
    );
    heard.error("a prefix", &RedisKeys::new(&hostile, "test").unwrap_err());
    let dialect = buttress_store::Dialect::Postgres;
    let statement = Statement::new("SELECT {prefix}x", &Tables::default(), dialect);
    heard.value("a statement", &statement);
    let after = CANARY.to_owned();
    heard.value("a wake", &AfterCommit::new(move || drop(after)));
    let mut token = [b'-'; 16];
    token[..CANARY.len()].copy_from_slice(CANARY.as_bytes());
    let fence = Fence::new(1, Token::from_bytes(token));
    let claim = Claim::new(LeaseTerms::default(), Clock::tokio());
    heard.value("a claim", &claim);
    heard.value("a fence", &fence);
    heard.value("a lease", &claim.granted(fence));
}
