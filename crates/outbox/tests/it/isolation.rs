//! OB12: transactions that append, and read what was appended, at each level of isolation: an
//! independent checker finds no anomaly that the level forbids.
//!
//! A key's messages are a list; an append puts a number at its end, behind the lock on the key's row
//! that a writer must take; a read is of the list in the order of places.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use adya::{History, Opts, Valid, Workload, check};
use buttress_outbox::{Message, Outbox};
use buttress_testkit::{seed::Seed, short_or_long};
use rand::RngExt as _;
use sqlx::Connection as _;

use crate::base;

const KEYS: u8 = 6;
const CLIENTS: usize = 6;
const TOPIC: &str = "t";

/// What a transaction does with a key: appends a number, or reads.
type Step = (u8, Option<u64>);

/// A transaction with what its reads saw, as the checker wants it.
fn line(kind: &str, client: usize, steps: &[Step], seen: Option<&[Vec<u64>]>) -> String {
    let mut reads = seen.unwrap_or_default().iter();
    let step = |(key, append): &Step| match append {
        Some(number) => format!(r#"["append",{key},{number}]"#),
        None => match reads.next() {
            Some(list) => format!(r#"["r",{key},{list:?}]"#),
            None => format!(r#"["r",{key},null]"#),
        },
    };
    let steps: Vec<String> = steps.iter().map(step).collect();
    let steps = steps.join(",");
    format!(r#"{{"type":"{kind}","process":{client},"value":[{steps}]}}"#)
}

fn message(key: u8, number: u64) -> Message {
    let message = Message::builder(TOPIC, "/isolation", "n").key([key]);
    message.payload(number.to_string()).build().unwrap()
}

fn numbers(rows: Vec<(Vec<u8>,)>) -> Vec<u64> {
    let number = |(payload,): (Vec<u8>,)| String::from_utf8(payload).unwrap().parse().unwrap();
    rows.into_iter().map(number).collect()
}

macro_rules! histories {
    ($run:ident, $base:ident, $level:ident, $reads_first:literal, $lock:literal, $read:literal) => {
        async fn $run(level: &'static str, transactions: u64) -> Option<String> {
            let base = base::$base().await?;
            let create = "CREATE TABLE business (k SMALLINT PRIMARY KEY, n BIGINT NOT NULL)";
            sqlx::raw_sql(create).execute(&base.pool).await.unwrap();
            for key in 0..KEYS {
                let row: &'static str = format!("INSERT INTO business VALUES ({key}, 0)").leak();
                sqlx::raw_sql(row).execute(&base.pool).await.unwrap();
            }
            let history = Arc::new(Mutex::new(String::new()));
            let outbox = Outbox::new(base.store.clone());
            let mut clients = tokio::task::JoinSet::new();
            for client in 0..CLIENTS {
                let (pool, outbox) = (base.pool.clone(), outbox.clone());
                let history = Arc::clone(&history);
                clients.spawn(async move {
                    let mut rng = Seed::new().rng();
                    let mut process = client;
                    let mut connection = pool.acquire().await.unwrap();
                    let each = transactions / u64::try_from(CLIENTS).unwrap();
                    let mut number = u64::try_from(client).unwrap() << 32;
                    for _ in 0..each {
                        let mut steps: Vec<Step> = Vec::new();
                        // Keys in their order: whoever locks several waits in no circle.
                        for key in 0..KEYS {
                            if rng.random_bool(0.4) {
                                number += 1;
                                steps.push((key, rng.random_bool(0.5).then_some(number)));
                            }
                        }
                        // Reads before and behind, so that a level can show what it is.
                        steps.push((rng.random_range(0..KEYS), None));
                        if $reads_first {
                            steps.insert(0, (rng.random_range(0..KEYS), None));
                        } else {
                            steps.sort_by_key(|(_, append)| append.is_none());
                        }
                        let commits = rng.random_bool(0.9);
                        let say = |line: String| {
                            writeln!(history.lock().unwrap(), "{line}").unwrap();
                        };
                        say(line("invoke", process, &steps, None));
                        let acting = async {
                            $level(&mut connection, level).await?;
                            let mut reads = Vec::new();
                            let mut transaction = connection.begin().await?;
                            for (key, append) in &steps {
                                if let Some(number) = append {
                                    let lock = sqlx::query($lock).bind(i16::from(*key));
                                    lock.execute(&mut *transaction).await?;
                                    let message = message(*key, *number);
                                    let appended =
                                        outbox.append_in(&mut *transaction, &message).await;
                                    drop(appended.map_err(|_| sqlx::Error::WorkerCrashed)?);
                                } else {
                                    let read = sqlx::query_as($read).bind(vec![*key]);
                                    let rows = read.fetch_all(&mut *transaction).await?;
                                    reads.push(numbers(rows));
                                }
                            }
                            if commits {
                                transaction.commit().await?;
                                Ok(Some(reads))
                            } else {
                                transaction.rollback().await?;
                                Ok::<_, sqlx::Error>(None)
                            }
                        };
                        match acting.await {
                            Ok(Some(reads)) => say(line("ok", process, &steps, Some(&reads))),
                            // Rolled back, by us or by the level: all before its commit.
                            Ok(None) | Err(_) => say(line("fail", process, &steps, None)),
                        }
                        process += CLIENTS;
                    }
                });
            }
            clients.join_all().await;
            Some(Arc::try_unwrap(history).unwrap().into_inner().unwrap())
        }
    };
}

async fn postgres_level(
    connection: &mut sqlx::PgConnection,
    level: &str,
) -> Result<(), sqlx::Error> {
    let set: &'static str =
        format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}").leak();
    sqlx::raw_sql(set).execute(connection).await.map(drop)
}

async fn mariadb_level(
    connection: &mut sqlx::MySqlConnection,
    level: &str,
) -> Result<(), sqlx::Error> {
    let set: &'static str = format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}").leak();
    sqlx::raw_sql(set).execute(connection).await.map(drop)
}

histories!(
    on_postgres,
    on_postgres,
    postgres_level,
    true,
    "UPDATE business SET n = n + 1 WHERE k = $1",
    "SELECT payload FROM buttress_outbox WHERE key = $1 ORDER BY id"
);
histories!(
    on_mariadb,
    on_mariadb,
    mariadb_level,
    false,
    "UPDATE business SET n = n + 1 WHERE k = ?",
    "SELECT payload FROM buttress_outbox WHERE `key` = ? ORDER BY id"
);

/// The anomalies that the model forbids and the history has.
fn anomalies(history: &str, model: &str) -> (Valid, Vec<String>) {
    let history = History::from_json(history).unwrap();
    let options = Opts {
        models: vec![model.into()],
        ..Opts::default()
    };
    let report = check(&history, Workload::ListAppend, &options);
    let found = report.anomaly_types.iter().map(ToString::to_string);
    (report.valid, found.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob12_appends_add_no_anomaly_to_postgresqls_levels() {
    let tally = buttress_testkit::tally::suite("OB12");
    for (level, model) in [
        ("READ COMMITTED", "read-committed"),
        ("REPEATABLE READ", "snapshot-isolation"),
        ("SERIALIZABLE", "serializable"),
    ] {
        let Some(history) = on_postgres(level, short_or_long(1_200, 100_000)).await else {
            return;
        };
        let committed = history.matches(r#""type":"ok""#).count();
        let (valid, found) = anomalies(&history, model);
        assert_eq!(valid, Valid::True, "{level}: {found:?}");
        assert!(committed > 300, "{level}: {committed} committed");
        tally.operations(committed);
        println!("{level}: {committed} committed");
    }
}

/// There a snapshot is taken by the first read, and a lock afterwards shows what is newer: whoever
/// reads before he locks sees his own message behind a list that is old, whatever table it is in. So
/// these lock first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob12_appends_add_no_anomaly_to_mariadbs_levels() {
    let tally = buttress_testkit::tally::suite("OB12");
    for level in ["READ COMMITTED", "REPEATABLE READ"] {
        let Some(history) = on_mariadb(level, short_or_long(1_200, 100_000)).await else {
            return;
        };
        let committed = history.matches(r#""type":"ok""#).count();
        let (valid, found) = anomalies(&history, "read-committed");
        assert_eq!(valid, Valid::True, "{level}: {found:?}");
        assert!(committed > 300, "{level}: {committed} committed");
        tally.operations(committed);
        println!("{level} on MariaDB: {committed} committed");
    }
}

/// The checker must be able to fail: a level that is asked for more than it gives, and a read of
/// what was rolled back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob12_what_a_level_does_not_give_is_found() {
    let tally = buttress_testkit::tally::suite("OB12");
    let Some(history) = on_postgres("READ COMMITTED", 1_200).await else {
        return;
    };
    let (valid, found) = anomalies(&history, "serializable");
    assert_eq!(valid, Valid::False, "{found:?}");
    let planted = r#"{"type":"invoke","process":1000001,"value":[["append",0,99]]}
{"type":"fail","process":1000001,"value":[["append",0,99]]}
{"type":"invoke","process":1000002,"value":[["r",0,null]]}
{"type":"ok","process":1000002,"value":[["r",0,[99]]]}"#;
    let (valid, found) = anomalies(planted, "read-committed");
    assert_eq!(valid, Valid::False);
    assert!(found.iter().any(|it| it == "G1a"), "{found:?}");
    tally.caught(2);
}
