//! How many decisions a second a limit on Redis makes, with and without leases, beside the least that a
//! script can do.

#![allow(clippy::disallowed_methods, reason = "it is timed by hand")]
#![allow(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "figures are printed"
)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use buttress_core::Clock;
use buttress_rate_limiter::{Bandwidth, Quota, SharedRateLimiter, WhenDown, store::RedisStore};
use buttress_store::{Gate, RedisConnection};

/// Decisions a second on Redis, by so many tasks.
fn main() {
    let Ok(server) = buttress_testkit::redis::Server::start() else {
        println!("no redis-server: left out");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let connection = RedisConnection::new(connection);
        let limiter = |lease: Option<u64>| {
            let quota = Quota::new(Bandwidth::per_second(1_000_000).burst(1_000_000)).unwrap();
            let store = RedisStore::new(connection.clone());
            let name = if lease.is_some() { "leased" } else { "plain" };
            let builder = SharedRateLimiter::builder(name, quota, store)
                .when_down(WhenDown::Closed)
                .clock(Clock::quanta())
                .gate(Gate::sql());
            let builder = match lease {
                Some(slice) => builder.lease(slice, Duration::from_secs(1)),
                None => builder,
            };
            builder.build().unwrap()
        };
        // The least that a script can do for a limit: read, write, expire.
        let script = Arc::new(buttress_store::Script::new(
            "local t = redis.call('TIME') local v = redis.call('GET', KEYS[1]) \
             redis.call('SET', KEYS[1], t[1] .. t[2], 'PX', 1000) return {v and 1 or 0, t[1], t[2]}",
        ));
        for tasks in [1_u64, 16, 64, 256] {
            let bare = {
                let (script, connection) = (Arc::clone(&script), connection.clone());
                rate(tasks, move || {
                    let (script, connection) = (Arc::clone(&script), connection.clone());
                    async move {
                        let key = b"bench:{bare}".to_vec();
                        let run = script.run::<(i64, i64, i64)>(&connection, std::slice::from_ref(&key), 0);
                        run.await.unwrap();
                    }
                })
                .await
            };
            let plain = decisions(tasks, limiter(None)).await;
            let leased = decisions(tasks, limiter(Some(1000))).await;
            println!(
                "redis, {tasks} tasks: bare {bare:.0}/s, plain {plain:.0}/s ({:.2}), leased {leased:.0}/s ({:.1})",
                plain / bare,
                leased / bare
            );
        }
    });
}

async fn decisions(tasks: u64, limiter: SharedRateLimiter) -> f64 {
    rate(tasks, move || {
        let limiter = limiter.clone();
        async move {
            black_box(limiter.check("hot").await.unwrap().is_allowed());
        }
    })
    .await
}

async fn rate<F>(tasks: u64, call: impl Fn() -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let begun = Instant::now();
    let over = begun + Duration::from_millis(700);
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut calls = 0_u64;
                while Instant::now() < over {
                    call().await;
                    calls += 1;
                    if calls.is_multiple_of(64) {
                        tokio::task::yield_now().await;
                    }
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.unwrap();
    }
    calls as f64 / begun.elapsed().as_secs_f64()
}
