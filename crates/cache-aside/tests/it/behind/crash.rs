//! What a process that is killed loses: what was queued, and nothing of what was said to be written.

use buttress_testkit::{child, child::Child, redis::Server};

use super::*;
use crate::stores::redis_connection;

/// Writes ever higher numbers to a few keys, and says which it knows to be written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_behind_role() {
    let Some(role) = child::role("writes_behind") else {
        return;
    };
    let source = redis_connection(&std::env::var("BEHIND_SOURCE").unwrap()).await;
    let (cache, _) = cache(CachePolicy::default());
    let sink = move |writes: Vec<Write<u32>>| {
        let mut source = source.clone();
        async move {
            let mut all = ::redis::pipe();
            for write in &writes {
                let value = write.value().copied().unwrap_or(0);
                all.cmd("RPUSH").arg(write.key()).arg(value).ignore();
            }
            all.query_async::<()>(&mut source).await
        }
    };
    let policy = WriteBehindPolicy {
        delay: 20 * MILLISECOND,
        batch: 3,
        ..WriteBehindPolicy::default()
    };
    let behind = WriteBehind::start(&cache, policy, sink).unwrap();
    for round in 1.. {
        for key in ["a", "b", "c", "d"] {
            behind.put(key, round).await.unwrap();
        }
        if round % 50 == 0 {
            behind.flush().await;
            role.announce("written", &round.to_string());
        }
    }
}

#[tokio::test]
async fn a_process_that_is_killed_loses_what_was_queued_and_nothing_that_was_written() {
    let Ok(server) = Server::start() else {
        return;
    };
    let seed = buttress_testkit::seed::Seed::new();
    let mut rng = seed.rng();
    for _ in 0..buttress_testkit::tier::short_or_long(3, 100) {
        let mut plain = redis_connection(&server.url()).await;
        ::redis::cmd("FLUSHALL")
            .query_async::<()>(&mut plain)
            .await
            .unwrap();
        let mut writer = Child::role("writes_behind", "behind::crash::writes_behind_role")
            .environment("BEHIND_SOURCE", server.url())
            .spawn();
        writer.until("written").await;
        let said: u32 = writer.until("written").await.parse().unwrap();
        let span = Duration::ZERO..Duration::from_millis(60);
        writer.kill_within(span, &mut rng).await;
        for key in ["a", "b", "c", "d"] {
            let written: Vec<u32> = ::redis::cmd("LRANGE")
                .arg(key)
                .arg(0)
                .arg(-1)
                .query_async(&mut plain)
                .await
                .unwrap();
            assert!(written.last().is_some_and(|last| *last >= said), "{key}");
            assert!(written.is_sorted(), "{key}: {written:?}");
        }
    }
}
