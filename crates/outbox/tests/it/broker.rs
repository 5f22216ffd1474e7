//! OB4, OB5: a destination over HTTP whose answers are lost, and one that is killed with -9 again and
//! again. What it has said yes to is in its file.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use buttress_outbox::{
    Message, Outbox, Relay, RelayPolicy, Topic, TopicPolicy, publisher::http::HttpPublisher,
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::{
    child::{Child, role},
    eventually,
    proxy::{Cut, Proxy, Way},
    seed::Seed,
    short_or_long,
};
use rand::RngExt as _;
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    base::{self, Base},
    webhook::stand::{client, endpoint, only},
};

const TOPIC: &str = "t";
const KEYS: u64 = 12;
const FILE: &str = "BUTTRESS_OUTBOX_TEST_FILE";
const PORT: &str = "BUTTRESS_OUTBOX_TEST_PORT";
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes each message into its file, and then says yes.
async fn serve(listener: TcpListener, file: PathBuf) {
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .unwrap();
    let take =
        async |State(file): State<Arc<Mutex<std::fs::File>>>, headers: HeaderMap, body: Bytes| {
            let id = headers["webhook-id"].to_str().unwrap();
            let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let line = format!("{id} {} {}\n", event["data"]["key"], event["data"]["n"]);
            // One write: a process that is killed has written it or not.
            file.lock().unwrap().write_all(line.as_bytes()).unwrap();
            StatusCode::OK
        };
    let state = Arc::new(Mutex::new(file));
    let app = Router::new().route("/", post(take)).with_state(state);
    axum::serve(listener, app).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_role() {
    let Some(role) = role("broker") else { return };
    let port: u16 = std::env::var(PORT).unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    role.announce("port", &listener.local_addr().unwrap().port().to_string());
    serve(listener, std::env::var(FILE).unwrap().into()).await;
}

fn relay(outbox: &Outbox, url: &str) -> JoinHandle<()> {
    let endpoint = endpoint(url).timeout(Duration::from_secs(2));
    let client = client(only(&["127.0.0.1"]));
    let publisher = HttpPublisher::new(&client, endpoint.build().unwrap()).unwrap();
    let soon = Backoff::constant(Duration::from_millis(10));
    let policy = TopicPolicy::new()
        .with_backoff(soon.clone())
        .with_outage_backoff(soon);
    let relay = Relay::builder(outbox)
        .policy(
            RelayPolicy::new()
                .with_poll(Duration::from_millis(20))
                .with_publish_deadline(publisher.longest_publish()),
        )
        .topic_with(TOPIC, policy, publisher)
        .build()
        .unwrap();
    tokio::spawn(async move { relay.run_until(std::future::pending()).await })
}

/// Appends the next message of each key.
async fn append(pool: &PgPool, outbox: &Outbox, n: &mut u64) {
    let message = |key: u64| {
        let message = Message::builder(TOPIC, "/broker", "told").key(key.to_string());
        let message = message.json(&serde_json::json!({"key": key, "n": *n}));
        message.build().unwrap()
    };
    let messages: Vec<_> = (0..KEYS).map(message).collect();
    let mut transaction = pool.begin().await.unwrap();
    let wake = outbox.append_all_in(&mut *transaction, &messages).await;
    let wake = wake.unwrap();
    transaction.commit().await.unwrap();
    wake.fire();
    *n += 1;
}

async fn drained(outbox: &Outbox) {
    let topic = Topic::new(TOPIC).unwrap();
    eventually("all is delivered", PATIENCE, async || {
        let counts = outbox.counts(&topic).await.unwrap();
        (counts.depth == 0 && counts.dead == 0).then_some(())
    })
    .await;
}

/// Whether the file has each key's messages 0 to `n`, each once or more, and after repeats are left
/// out in order. Returns how many repeats there were.
fn check(file: &Path, n: u64) -> Result<usize, String> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut seen = BTreeSet::new();
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let mut repeats = 0;
    for line in text.lines() {
        let mut words = line.split(' ');
        let id = words.next().ok_or(line)?;
        let [key, number] = [0; 2].map(|_: i32| words.next().and_then(|it| it.parse::<u64>().ok()));
        let (key, number) = key.zip(number).ok_or(line)?;
        if !seen.insert(id.to_owned()) {
            repeats += 1;
            continue;
        }
        let next = next.entry(key).or_default();
        if number != *next {
            return Err(format!("of key {key} came {number}, not {next}"));
        }
        *next += 1;
    }
    if next.len() != usize::try_from(KEYS).unwrap() || next.values().any(|next| *next != n) {
        return Err(format!("of {n} each there came {next:?}"));
    }
    Ok(repeats)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob4_answers_that_are_lost_repeat_no_more_messages_than_there_were_cuts() {
    let tally = buttress_testkit::tally::suite("OB4 X7");
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, file.clone()));
    let proxy = Proxy::start(address.to_string()).await.unwrap();
    let outbox = Outbox::new(base.store.clone());
    let relaying = relay(&outbox, &format!("http://{}/", proxy.address()));
    let cuts = short_or_long(100, 2000);
    let mut n = 0;
    for cut in 1..=cuts {
        proxy.cut_at(Way::ToServer, *b"POST / ", Cut::Answer);
        append(&base.pool, &outbox, &mut n).await;
        proxy.until_struck(cut).await;
    }
    drained(&outbox).await;
    relaying.abort();
    serving.abort();
    let repeats = check(&file, n).unwrap();
    let cuts = usize::try_from(cuts).unwrap();
    assert!((cuts / 2..=cuts).contains(&repeats), "{repeats} of {cuts}");
    println!(
        "{} messages, {cuts} answers lost, {repeats} told again",
        n * KEYS
    );
    tally.operations(n * KEYS);
}

async fn killed(base: &Base<sqlx::Postgres>, kills: u32) {
    let tally = buttress_testkit::tally::suite("OB5 X5");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    let spawn = |port: u16| {
        let broker = Child::role("broker", "broker::broker_role");
        let broker = broker.environment(FILE, &file);
        broker.environment(PORT, port.to_string()).spawn()
    };
    let mut broker = spawn(0);
    let port: u16 = broker.until("port").await.parse().unwrap();
    let outbox = Outbox::new(base.store.clone());
    let relaying = relay(&outbox, &format!("http://127.0.0.1:{port}/"));
    let mut rng = Seed::new().rng();
    let mut n = 0;
    for _ in 0..kills {
        for _ in 0..10 {
            append(&base.pool, &outbox, &mut n).await;
        }
        let range = Duration::from_millis(1)..Duration::from_millis(60);
        broker.kill_within(range, &mut rng).await;
        append(&base.pool, &outbox, &mut n).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..50))).await;
        broker = spawn(port);
        let _ = broker.until("port").await;
    }
    drained(&outbox).await;
    relaying.abort();
    let repeats = check(&file, n).unwrap();
    println!(
        "{} messages, {kills} kills of the destination, {repeats} told again",
        n * KEYS
    );
    tally.operations(n * KEYS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob5_a_destination_that_is_killed_loses_nothing_that_it_said_yes_to() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    killed(&base, short_or_long(10, 200)).await;
}

/// The check must be able to fail.
#[test]
fn ob4_what_is_lost_or_overtaken_fails_the_check() {
    let tally = buttress_testkit::tally::suite("OB4");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    let all: Vec<String> = (0..2)
        .flat_map(|n| (0..KEYS).map(move |key| format!("{key}-{n} {key} {n}")))
        .collect();
    let write = |lines: &[String]| std::fs::write(&file, lines.join("\n")).unwrap();
    write(&all);
    assert_eq!(check(&file, 2), Ok(0));
    let mut again = all.clone();
    again.push(all[3].clone());
    write(&again);
    assert_eq!(check(&file, 2), Ok(1));
    write(&all[..all.len() - 1]);
    assert!(check(&file, 2).unwrap_err().starts_with("of 2 each"));
    let mut overtaken = all.clone();
    overtaken.swap(0, usize::try_from(KEYS).unwrap());
    write(&overtaken);
    assert!(check(&file, 2).unwrap_err().starts_with("of key 0"));
    tally.caught(2);
}
