//! What begin and complete cost on each store, beside the bare two round trips in the same run:
//! an insert and an update by hand, without lease, fence, fingerprint or time.
//!
//! No criterion: ours and the bare take turns, so that what else the machine does hits both, and
//! the ratio is the figure. Servers are private ones that do not wait for the disk.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures, prints, and ends when it cannot"
)]

use std::time::{Duration, Instant};

use buttress_idempotency::{
    Begin, Fingerprint, Idempotency, Key, Scope, ScopedKey,
    store::{MemoryStore, MySqlStore, PostgresStore, RedisStore, SqliteStore},
};
use buttress_store::{RedisConnection, sqlite};
use buttress_testkit as testkit;

const ROUNDS: usize = 15;
const CALLS: u32 = 200;
/// How many phases a work has.
const PHASES: u32 = 4;
const NAMES: [&str; PHASES as usize] = ["ride", "charge", "receipt", "mail"];
const ASKED: Fingerprint = Fingerprint::new(1, [1; 32]);
const OUTCOME: &[u8] = &[b'x'; 300];

fn key(number: u64) -> ScopedKey {
    Scope::of(["bench"]).key(&Key::new(number.to_be_bytes()).unwrap())
}

/// The time of one call, by rounds of many, ours and the bare in turn.
async fn compare(what: &str, mut ours: impl AsyncFnMut(u64), mut bare: impl AsyncFnMut(u64)) {
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    let mut number = 0;
    for round in 0..=ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            number += 1;
            ours(number).await;
        }
        let middle = Instant::now();
        for _ in 0..CALLS {
            number += 1;
            bare(number).await;
        }
        // The first fills caches and prepares statements.
        if round > 0 {
            of_ours.push((middle - start) / CALLS);
            of_bare.push(middle.elapsed() / CALLS);
        }
    }
    say(what, median(of_ours), median(of_bare));
}

/// The same of calls that say themselves how long they took.
async fn compare_told(
    what: &str,
    mut ours: impl AsyncFnMut(u64) -> Duration,
    mut bare: impl AsyncFnMut(u64) -> Duration,
) {
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    let mut number = 0;
    for round in 0..=ROUNDS {
        let mut spent = [Duration::ZERO; 2];
        for _ in 0..CALLS / PHASES {
            number += 2;
            spent[0] += ours(number).await;
            spent[1] += bare(number + 1).await;
        }
        if round > 0 {
            of_ours.push(spent[0] / CALLS);
            of_bare.push(spent[1] / CALLS);
        }
    }
    say(what, median(of_ours), median(of_bare));
}

fn say(what: &str, ours: Duration, bare: Duration) {
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    let rate = 1.0 / ours.as_secs_f64();
    println!("{what:<40} {ours:>10.1?} {bare:>10.1?} {ratio:>6.2} {rate:>9.0}/s");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn once(idempotency: &Idempotency, number: u64) {
    let Begin::New(guard) = idempotency.begin(&key(number), &ASKED).await.unwrap() else {
        panic!("a key that nobody has");
    };
    guard.complete(OUTCOME).await.unwrap();
}

async fn replay(idempotency: &Idempotency) {
    let begun = idempotency.begin(&key(1), &ASKED).await.unwrap();
    assert!(matches!(begun, Begin::Replay(_)));
}

async fn memory() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let mut bare = std::collections::HashMap::new();
    compare(
        "memory",
        async |number| once(&idempotency, number).await,
        async |number| {
            bare.insert(key(number), Vec::new());
            bare.insert(key(number), OUTCOME.to_vec());
        },
    )
    .await;
}

async fn redis() {
    let server = testkit::redis::Server::start().unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let idempotency = Idempotency::new(RedisStore::new(RedisConnection::new(connection.clone())));
    let bare = async |number: u64| {
        for outcome in [&b""[..], OUTCOME] {
            let mut set = redis::cmd("SET");
            set.arg(key(number).as_bytes())
                .arg(outcome)
                .arg("PX")
                .arg(86_400_000);
            let () = set.query_async(&mut connection.clone()).await.unwrap();
        }
    };
    compare(
        "redis",
        async |number| once(&idempotency, number).await,
        bare,
    )
    .await;
    let get = async |_| {
        let mut get = redis::cmd("GET");
        get.arg(key(CALLS.into()).as_bytes());
        let _: Option<Vec<u8>> = get.query_async(&mut connection.clone()).await.unwrap();
    };
    compare(
        "redis, replay beside a get",
        async |_| replay(&idempotency).await,
        get,
    )
    .await;
}

/// By a macro, for sqlx's queries differ in their types.
macro_rules! sql {
    ($name:literal, $pool:expr, $store:expr, $bytes:literal, $insert:literal, $update:literal, $select:literal, $begin:ident) => {{
        let (pool, store) = ($pool, $store);
        store.migrate().await.unwrap();
        for table in [
            concat!(
                "CREATE TABLE bare (id ",
                $bytes,
                " PRIMARY KEY, state BIGINT, outcome ",
                $bytes,
                ")"
            ),
            "CREATE TABLE orders (number BIGINT)",
        ] {
            sqlx::query(table).execute(&pool).await.unwrap();
        }
        let idempotency = Idempotency::new(store);
        let insert = async |connection: &mut _, number: u64| {
            let key = key(number);
            let insert = sqlx::query($insert).bind(key.as_bytes().to_vec());
            insert.execute(connection).await.unwrap();
        };
        let update = async |connection: &mut _, number: u64| {
            let key = key(number);
            let update = sqlx::query($update)
                .bind(OUTCOME)
                .bind(key.as_bytes().to_vec());
            update.execute(connection).await.unwrap();
        };
        compare(
            $name,
            async |number| once(&idempotency, number).await,
            async |number| {
                insert(&mut *pool.acquire().await.unwrap(), number).await;
                update(&mut *pool.acquire().await.unwrap(), number).await;
            },
        )
        .await;
        compare(
            concat!($name, ", replay beside a select"),
            async |_| replay(&idempotency).await,
            async |_| {
                let select = sqlx::query($select).bind(key(CALLS.into()).as_bytes().to_vec());
                select.fetch_optional(&pool).await.unwrap();
            },
        )
        .await;
        let order = "INSERT INTO orders VALUES (7)";
        compare(
            concat!($name, ", in the order's transaction"),
            async |number| {
                $begin!(idempotency, pool, transaction, number, guard, {
                    sqlx::query(order).execute(&mut *transaction).await.unwrap();
                    guard.complete_in(&mut *transaction, OUTCOME).await.unwrap()
                });
            },
            async |number| {
                let mut transaction = pool.begin().await.unwrap();
                insert(&mut *transaction, number + (1 << 40)).await;
                sqlx::query(order).execute(&mut *transaction).await.unwrap();
                update(&mut *transaction, number + (1 << 40)).await;
                transaction.commit().await.unwrap();
            },
        )
        .await;
        // Each phase is a transaction that writes an order; only these are timed.
        compare_told(
            concat!($name, ", a phase in the order's transaction"),
            async |number| {
                let key = key(number + (1 << 41));
                let Begin::New(mut guard) = idempotency.begin(&key, &ASKED).await.unwrap() else {
                    panic!("a key that nobody has");
                };
                let start = Instant::now();
                for name in NAMES {
                    assert_eq!(guard.passed::<u32>(name).unwrap(), None);
                    let mut transaction = pool.begin().await.unwrap();
                    sqlx::query(order).execute(&mut *transaction).await.unwrap();
                    guard.phase_in(&mut *transaction, name, &7).await.unwrap();
                    transaction.commit().await.unwrap();
                }
                let spent = start.elapsed();
                guard.complete(OUTCOME).await.unwrap();
                spent
            },
            async |number| {
                let key = key(number + (1 << 41));
                insert(&mut *pool.acquire().await.unwrap(), number + (1 << 41)).await;
                let start = Instant::now();
                let mut progress = Vec::new();
                for name in NAMES {
                    progress.extend_from_slice(name.as_bytes());
                    progress.extend_from_slice(b" 7\n");
                    let mut transaction = pool.begin().await.unwrap();
                    sqlx::query(order).execute(&mut *transaction).await.unwrap();
                    let update = sqlx::query($update).bind(&progress[..]);
                    let update = update.bind(key.as_bytes().to_vec());
                    update.execute(&mut *transaction).await.unwrap();
                    transaction.commit().await.unwrap();
                }
                start.elapsed()
            },
        )
        .await;
    }};
}

/// The claim in the transaction.
macro_rules! inside {
    ($idempotency:ident, $pool:ident, $transaction:ident, $number:ident, $guard:ident, $work:block) => {
        let mut $transaction = $pool.begin().await.unwrap();
        let key = key($number + (1 << 40));
        let begun = $idempotency
            .begin_in(&mut *$transaction, &key, &ASKED)
            .await
            .unwrap();
        let Begin::New($guard) = begun else {
            panic!("a key that nobody has")
        };
        let done = $work;
        $transaction.commit().await.unwrap();
        done.fire();
    };
}

/// The claim before it.
macro_rules! before {
    ($idempotency:ident, $pool:ident, $transaction:ident, $number:ident, $guard:ident, $work:block) => {
        let key = key($number + (1 << 40));
        let begun = $idempotency.begin(&key, &ASKED).await.unwrap();
        let Begin::New($guard) = begun else {
            panic!("a key that nobody has")
        };
        let mut $transaction = $pool.begin().await.unwrap();
        let done = $work;
        $transaction.commit().await.unwrap();
        done.fire();
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("begin and complete, a key each: medians of {ROUNDS} rounds of {CALLS}");
    println!("{:<40} {:>10} {:>10} {:>6}", "", "ours", "bare", "ratio");
    memory().await;
    redis().await;
    {
        let server = testkit::postgres::Server::start().unwrap();
        let pool = sqlx::PgPool::connect(&server.url("postgres"))
            .await
            .unwrap();
        sql!(
            "postgres",
            pool.clone(),
            PostgresStore::new(pool).unwrap(),
            "BYTEA",
            "INSERT INTO bare VALUES ($1, 0, NULL)",
            "UPDATE bare SET state = 2, outcome = $1 WHERE id = $2",
            "SELECT outcome FROM bare WHERE id = $1",
            inside
        );
    }
    {
        let server = testkit::mysql::Server::start().unwrap();
        let mut admin = sqlx::MySqlPool::connect(&server.url("mysql"))
            .await
            .unwrap()
            .acquire()
            .await
            .unwrap();
        sqlx::query("CREATE DATABASE bench")
            .execute(&mut *admin)
            .await
            .unwrap();
        let pool = sqlx::MySqlPool::connect(&server.url("bench"))
            .await
            .unwrap();
        sql!(
            "mysql",
            pool.clone(),
            MySqlStore::new(pool).unwrap(),
            "VARBINARY(512)",
            "INSERT INTO bare VALUES (?, 0, NULL)",
            "UPDATE bare SET state = 2, outcome = ? WHERE id = ?",
            "SELECT outcome FROM bare WHERE id = ?",
            before
        );
    }
    {
        let folder = tempfile::tempdir().unwrap();
        let options = sqlite::options(folder.path().join("bench.db"));
        let pool = sqlx::SqlitePool::connect_lazy_with(options);
        let writer = sqlite::Writer::new(pool.clone());
        sql!(
            "sqlite",
            pool,
            SqliteStore::new(writer).unwrap(),
            "BLOB",
            "INSERT INTO bare VALUES (?, 0, NULL)",
            "UPDATE bare SET state = 2, outcome = ? WHERE id = ?",
            "SELECT outcome FROM bare WHERE id = ?",
            inside
        );
    }
}
