//! Redis: scripts that are forgotten, keys of strange bytes, connections of any type.

use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use buttress_store::{Deadline, Key, Micros, Phase, RedisConnection, RedisKeys, Script, Ttl};
use buttress_testkit::redis::{Prefix, Server, fresh_prefix};

/// Counts, and says when, by the server's clock.
const COUNT: &str = "
    local time = redis.call('TIME')
    local count = redis.call('INCR', KEYS[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
    return {count, tonumber(time[1]), tonumber(time[2])}
";

async fn multiplexed(url: &str) -> MultiplexedConnection {
    let client = ::redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn keys(prefix: &Prefix) -> RedisKeys {
    RedisKeys::new(prefix.as_str().trim_end_matches(':'), "test").unwrap()
}

#[tokio::test]
async fn a_script_outlives_script_flush_on_any_connection() {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let keys = keys(&prefix);
    let client = ::redis::Client::open(prefix.url()).unwrap();
    let config = ConnectionManagerConfig::new();
    let managed = ConnectionManager::new_with_config(client, config)
        .await
        .unwrap();
    let mut flush = multiplexed(prefix.url()).await;
    let script = Script::new(COUNT);
    let key = keys.of(&Key::new("count").unwrap());
    let ttl = Ttl::from(Duration::from_secs(60));
    let mut expected = 0;
    for connection in [
        RedisConnection::new(multiplexed(prefix.url()).await),
        RedisConnection::new(managed),
    ] {
        for _ in 0..50 {
            let () = ::redis::cmd("SCRIPT")
                .arg("FLUSH")
                .query_async(&mut flush)
                .await
                .unwrap();
            let run = script.run::<(i64, i64, i64)>(&connection, std::slice::from_ref(&key), ttl);
            let deadline = Deadline::after(Deadline::REDIS * 10);
            let (count, seconds, micros) = deadline.run(Phase::Statement, run).await.unwrap();
            expected += 1;
            assert_eq!(count, expected, "once each time");
            assert!(Micros::of_redis(seconds, micros) > Micros::new(1_700_000_000_000_000));
        }
    }
    let left: i64 = ::redis::cmd("PTTL")
        .arg(&key)
        .query_async(&mut flush)
        .await
        .unwrap();
    assert!(
        (1..=60_000).contains(&left),
        "every key has a time to live: {left}"
    );
}

#[tokio::test]
async fn a_script_runs_while_scripts_are_flushed_all_the_time() {
    let tally = buttress_testkit::tally::suite("X9");
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let keys = keys(&prefix);
    let mut flush = multiplexed(prefix.url()).await;
    let connection = RedisConnection::new(multiplexed(prefix.url()).await);
    let flushing = tokio::spawn(async move {
        loop {
            let () = ::redis::cmd("SCRIPT")
                .arg("FLUSH")
                .query_async(&mut flush)
                .await
                .unwrap();
        }
    });
    let script = Script::new(COUNT);
    let key = [keys.of(&Key::new("busy").unwrap())];
    for expected in 1..=500 {
        let ttl = Ttl::from(Duration::from_secs(60));
        let count = script.run::<(i64, i64, i64)>(&connection, &key, ttl).await;
        assert_eq!(count.unwrap().0, expected);
    }
    flushing.abort();
    tally.operations(500);
}

#[tokio::test]
async fn keys_of_any_bytes_stay_apart_and_in_one_slot_each() {
    let Ok(server) = Server::start() else {
        return; // the other tests say so
    };
    let mut connection = multiplexed(&server.url()).await;
    let keys = RedisKeys::new("buttress", "test").unwrap();
    let mut hostile: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    for text in [
        "{", "}", "{}", "}{", "%7D", "a}b", "a{b}c", "\r\n", " ", "{a}", "a",
    ] {
        hostile.push(text.as_bytes().to_vec());
    }
    hostile.sort();
    hostile.dedup();
    for bytes in &hostile {
        let key = Key::new(bytes).unwrap();
        let mut set = ::redis::cmd("SET");
        set.arg(keys.of(&key))
            .arg(bytes)
            .arg("PX")
            .arg(Ttl::from(Duration::from_secs(60)));
        let () = set.query_async(&mut connection).await.unwrap();
    }
    for bytes in &hostile {
        let key = Key::new(bytes).unwrap();
        let mut get = ::redis::cmd("GET");
        let value: Vec<u8> = get
            .arg(keys.of(&key))
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(&value, bytes);
    }
    let size: usize = ::redis::cmd("DBSIZE")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(size, hostile.len());
}
