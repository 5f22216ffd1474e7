//! Boards: the suite on each, and what a server, a network and a stopped process do to them.

use std::{sync::Arc, time::Duration};

use ::redis::aio::{ConnectionManager, MultiplexedConnection};
use buttress_core::Clock;
use buttress_store::{
    Deadline, Gate, Key, Micros, RedisConnection, StoreError,
    board::{Board, Member, MemoryBoard, Notice, Page, Post, RedisBoard, Seat},
    testing,
};
use buttress_testkit::{
    cancel_sweep::cancel_sweep,
    eventually,
    proxy::{Proxy, Way},
    redis::{Cluster, Prefix, Server, fresh_prefix},
};

const LIFE: Duration = Duration::from_secs(20);

async fn raw(url: &str) -> MultiplexedConnection {
    let client = ::redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn connection(url: &str) -> RedisConnection {
    let client = ::redis::Client::open(url).unwrap();
    RedisConnection::new(ConnectionManager::new(client).await.unwrap())
}

async fn board_of(prefix: &Prefix) -> Arc<dyn Board> {
    board_at(prefix, prefix.url()).await
}

async fn board_at(prefix: &Prefix, url: &str) -> Arc<dyn Board> {
    let connection = connection(url).await;
    let prefix = prefix.as_str().trim_end_matches(':');
    Arc::new(RedisBoard::with_prefix(connection, prefix).unwrap())
}

fn seat(board: &Arc<dyn Board>, gate: Gate) -> Seat {
    let page = Key::new("page").unwrap();
    let clock = Clock::tokio();
    Seat::new(Arc::clone(board), gate, page, Member::random(), LIFE, clock)
}

async fn say(seat: &Seat, what: &str) -> (bool, Vec<Vec<u8>>) {
    let heard = seat.exchange(|_| Some(what.into())).await.unwrap();
    let bodies = heard.others.into_iter().map(|it| it.body);
    (heard.pinned, bodies.collect())
}

#[tokio::test]
async fn memory_is_a_board() {
    testing::board(Arc::new(MemoryBoard::new())).await;
}

#[tokio::test]
async fn redis_is_a_board() {
    if let Some(prefix) = fresh_prefix() {
        testing::board(board_of(&prefix).await).await;
    }
}

#[tokio::test]
async fn a_cluster_is_a_board() {
    let Ok(cluster) = Cluster::start() else {
        return;
    };
    let client = ::redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
    let connection = RedisConnection::new(client.get_async_connection().await.unwrap());
    testing::board(Arc::new(RedisBoard::new(connection))).await;
}

#[tokio::test]
async fn two_seats_hear_each_other_and_the_first_exchange_only_reads() {
    let board: Arc<dyn Board> = Arc::new(MemoryBoard::new());
    let (one, other) = (seat(&board, Gate::redis()), seat(&board, Gate::redis()));
    assert_eq!(say(&one, "never said").await, (false, vec![]));
    assert_eq!(say(&other, "never said").await, (false, vec![]));
    assert_eq!(say(&one, "one").await, (true, vec![]));
    assert_eq!(say(&other, "other").await, (true, vec![b"one".to_vec()]));
    assert_eq!(say(&one, "one more").await, (true, vec![b"other".to_vec()]));
    other.leave().await.unwrap();
    assert_eq!(say(&one, "alone").await, (true, vec![]));
    let long = one.exchange(|_| Some(vec![0; 513])).await;
    assert!(long.is_err());
}

/// A board that tells one member's words as those of several.
#[derive(Debug)]
struct Stuttering;

#[async_trait::async_trait]
impl Board for Stuttering {
    async fn exchange(&self, _: &Key, _: Option<&Post>, _: Deadline) -> Result<Page, StoreError> {
        let notice = |member, seconds, body: &str| {
            Notice::new(
                Member::new(member),
                Duration::from_secs(seconds),
                body.into(),
            )
        };
        let notices = vec![notice(1, 2, "old"), notice(2, 1, "b"), notice(1, 1, "a")];
        Ok(Page::new(Micros::new(1), true, notices))
    }
}

#[tokio::test]
async fn a_member_has_one_voice_however_often_a_board_tells_it() {
    let board: Arc<dyn Board> = Arc::new(Stuttering);
    let (_, heard) = say(&seat(&board, Gate::redis()), "never said").await;
    assert_eq!(heard, [b"a", b"b"]);
}

/// The way to the server is held up for longer than what is sent there may be late.
#[tokio::test]
async fn what_was_held_up_on_its_way_is_never_pinned() {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let (proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let gate = Gate::redis()
        .with_deadline(Duration::from_millis(300))
        .unwrap();
    let late = seat(&board_at(&prefix, &url).await, gate);
    let other = seat(&board_of(&prefix).await, Gate::redis());
    say(&late, "").await;
    say(&other, "").await;
    assert!(say(&late, "in time").await.0);
    proxy.delay(Way::ToServer, Duration::from_millis(900));
    let held = late.exchange(|_| Some(b"late".to_vec())).await;
    assert!(held.is_err(), "{held:?}");
    // It has arrived by now, and the connection stays open so that it does.
    let clock = Clock::tokio();
    let begun = clock.now();
    while clock.now().saturating_since(begun) < Duration::from_millis(1200) {
        let (_, bodies) = say(&other, "looks").await;
        assert_eq!(bodies, [b"in time".to_vec()]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(proxy.bytes(Way::ToServer) > 0);
}

#[tokio::test]
async fn every_page_ends_and_what_is_foreign_or_from_the_future_is_not_read() {
    let Ok(server) = Server::start() else {
        return;
    };
    let board: Arc<dyn Board> = Arc::new(RedisBoard::new(connection(&server.url()).await));
    let (one, other) = (seat(&board, Gate::redis()), seat(&board, Gate::redis()));
    for _ in 0..2 {
        say(&one, "one").await;
        say(&other, "other").await;
    }
    let mut raw = raw(&server.url()).await;
    let page = "buttress:board:{page}";
    let future = "1 99999999999999999 1000000 from another clock";
    for (member, value) in [
        ("00000000000000000000000000000001", future),
        ("00000000000000000000000000000002", "no numbers"),
        ("00000000000000000000000000000003", ""),
        ("no member", "1 1 1 long ago"),
    ] {
        let mut pin = ::redis::cmd("HSET");
        let () = pin
            .arg(page)
            .arg(member)
            .arg(value)
            .query_async(&mut raw)
            .await
            .unwrap();
    }
    assert_eq!(say(&one, "one").await, (true, vec![b"other".to_vec()]));
    let left: i64 = ::redis::cmd("HLEN")
        .arg(page)
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(left, 2, "what is nobody's is removed");
    let ends: i64 = ::redis::cmd("PTTL")
        .arg(page)
        .query_async(&mut raw)
        .await
        .unwrap();
    assert!((1..=20_000).contains(&ends), "{ends}");
    let () = ::redis::cmd("SET")
        .arg(page)
        .arg("of another type")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert!(one.exchange(|_| None).await.is_err(), "and no panic");
}

#[tokio::test]
async fn a_flush_and_forgotten_scripts_cost_one_round() {
    let tally = buttress_testkit::tally::suite("X9");
    let Ok(server) = Server::start() else {
        return;
    };
    let board: Arc<dyn Board> = Arc::new(RedisBoard::new(connection(&server.url()).await));
    let (one, other) = (seat(&board, Gate::redis()), seat(&board, Gate::redis()));
    let mut raw = raw(&server.url()).await;
    say(&one, "").await;
    say(&other, "").await;
    for _ in 0..10 {
        for words in [["SCRIPT", "FLUSH"].as_slice(), &["FLUSHALL"]] {
            let mut command = ::redis::cmd(words[0]);
            let () = command
                .arg(&words[1..])
                .query_async(&mut raw)
                .await
                .unwrap();
        }
        assert_eq!(say(&one, "one").await, (true, vec![]));
        assert_eq!(say(&other, "other").await, (true, vec![b"one".to_vec()]));
    }
    tally.faults(20);
}

#[tokio::test]
async fn a_server_that_restarts_empty_is_heard_again() {
    let _tally = buttress_testkit::tally::suite("X9");
    let Ok(server) = Server::start() else {
        return;
    };
    let board: Arc<dyn Board> = Arc::new(RedisBoard::new(connection(&server.url()).await));
    let seat = seat(&board, Gate::redis());
    say(&seat, "").await;
    assert!(say(&seat, "before").await.0);
    server.kill();
    assert!(seat.exchange(|_| Some(vec![])).await.is_err());
    server.restart().unwrap();
    eventually("it is pinned", Duration::from_secs(20), async || {
        let heard = seat.exchange(|_| Some(b"after".to_vec())).await.ok()?;
        heard.pinned.then_some(())
    })
    .await;
}

/// Each run's number is higher than all before, wherever it was dropped.
#[tokio::test]
async fn an_exchange_that_is_dropped_anywhere_leaves_the_seat_whole() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let (_proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let one = seat(&board_at(&prefix, &url).await, Gate::sql());
    let other = seat(&board_of(&prefix).await, Gate::sql());
    say(&one, "").await;
    say(&other, "").await;
    let points = cancel_sweep(
        async || say(&one, "swept").await.0,
        async |point| {
            assert!(say(&one, "after").await.0, "{point:?}");
            let (_, heard) = say(&other, "other").await;
            assert_eq!(heard, [b"after".to_vec()], "{point:?}");
        },
    )
    .await;
    assert!(points.points > 0);
}
