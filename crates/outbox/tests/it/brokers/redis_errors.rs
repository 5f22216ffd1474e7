//! What Redis says when it does not take a message, and what of a stream is kept.

use std::time::Duration;

use buttress_outbox::{
    PublishErrorKind::{Down, Unknown},
    consumer::redis_streams::RedisStreamConsumer,
    publisher::redis_streams::{RedisStreamPublisher, Trim},
};
use buttress_testkit::{eventually, redis::Server};

use super::{
    PATIENCE, delivery, kinds, message,
    redis_streams::{ask, connection, fresh, prefix_of, server, stream},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_nothing_is_down_and_has_it_when_it_can() {
    let Some(server) = server("a Redis that is full", Server::start).await else {
        return;
    };
    let redis = connection(&server.url()).await;
    let publisher = RedisStreamPublisher::new(&redis, "lab", Trim::Nothing).unwrap();
    let batch = [1, 2].map(|n| delivery(n, message("t").payload(vec![0; 1000])));
    let set = async |name: &str, value: &str| {
        let _: String = ask(&redis, &["CONFIG", "SET", name, value]).await;
    };
    // Full.
    set("maxmemory", "1").await;
    assert_eq!(kinds(&publisher, &batch).await, [Some(Down); 2]);
    set("maxmemory", "0").await;
    assert_eq!(kinds(&publisher, &batch).await, [None; 2]);
    // With too few replicas to take writes at all.
    set("min-replicas-to-write", "1").await;
    assert_eq!(kinds(&publisher, &batch).await, [Some(Down); 2]);
    set("min-replicas-to-write", "0").await;
    // Something else is where the stream should be.
    let _: i64 = ask(&redis, &["DEL", &stream("lab")]).await;
    let _: String = ask(&redis, &["SET", &stream("lab"), "x"]).await;
    let answers = buttress_outbox::Publisher::publish(&publisher, &batch).await;
    let reason = answers[0].as_ref().unwrap_err().reason().to_owned();
    assert_eq!(reason, "Redis answered WRONGTYPE");
    let _: i64 = ask(&redis, &["DEL", &stream("lab")]).await;
    // Gone, and back.
    let victim = server.clone();
    tokio::task::spawn_blocking(move || victim.kill())
        .await
        .unwrap();
    assert_eq!(kinds(&publisher, &batch).await, [Some(Down); 2]);
    let victim = server.clone();
    tokio::task::spawn_blocking(move || victim.restart().unwrap())
        .await
        .unwrap();
    eventually("it is back", PATIENCE, async || {
        (kinds(&publisher, &batch).await == [None; 2]).then_some(())
    })
    .await;

    // Nobody follows it: what should be on a replica is there, and not delivered.
    let wait = Duration::from_millis(50);
    let careful = publisher.clone().with_replicas(1, wait).unwrap();
    assert_eq!(kinds(&careful, &batch).await, [Some(Unknown); 2]);
    let leader = server.clone();
    let replica = tokio::task::spawn_blocking(move || leader.start_replica().unwrap());
    let replica = replica.await.unwrap();
    let careful = publisher.with_replicas(1, Duration::from_secs(4)).unwrap();
    eventually("a replica has it", PATIENCE, async || {
        (kinds(&careful, &batch).await == [None; 2]).then_some(())
    })
    .await;
    tokio::task::spawn_blocking(move || drop((replica, server)))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_kept_as_long_as_it_was_said() {
    let Some((prefix, connection)) = fresh().await else {
        return;
    };
    let prefix = prefix_of(&prefix);
    let length = async || -> i64 { ask(&connection, &["XLEN", &stream(prefix)]).await };
    let add = async |trim: Trim| {
        let publisher = RedisStreamPublisher::new(&connection, prefix, trim).unwrap();
        let batch: Vec<_> = (1..=500).map(|n| delivery(n, message("t"))).collect();
        assert!(kinds(&publisher, &batch).await.iter().all(Option::is_none));
    };
    add(Trim::Nothing).await;
    add(Trim::Nothing).await;
    assert_eq!(length().await, 1000);
    add(Trim::Older(Duration::from_secs(3600))).await;
    assert_eq!(length().await, 1500);
    add(Trim::Longer(300)).await;
    // Whole nodes, of a hundred entries by default.
    let kept = length().await;
    assert!((300..=500).contains(&kept), "{kept}");
}

#[tokio::test]
async fn what_cannot_work_is_refused_when_it_is_built() {
    let Some((_, connection)) = fresh().await else {
        return;
    };
    let publisher = |prefix: &str, trim| RedisStreamPublisher::new(&connection, prefix, trim);
    for prefix in ["", "a{b", "a}b", "a b", "a\r\nb"] {
        assert_eq!(
            publisher(prefix, Trim::Nothing).unwrap_err().field(),
            "prefix"
        );
    }
    for trim in [Trim::Longer(0), Trim::Older(Duration::ZERO)] {
        assert_eq!(publisher("lab", trim).unwrap_err().field(), "trim");
    }
    let long = "a".repeat(256);
    for (topic, group, name, field) in [
        ("a}:b", "g", "n", "topic"),
        ("orders", "", "n", "group"),
        ("orders", "g", &*long, "name"),
    ] {
        let wrong = RedisStreamConsumer::new(&connection, "lab", topic, group, name);
        assert_eq!(wrong.unwrap_err().field(), field);
    }
}
