//! What it costs to wait for a permit that is there, and to go through the layer, beside governor, leaky-bucket and
//! tower-resilience.

#![allow(clippy::disallowed_methods, reason = "samples are timed by hand")]
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
    num::NonZeroU32,
    time::{Duration, Instant},
};

use buttress_benches::wanted;
use buttress_core::Clock;
use buttress_rate_limiter::{Bandwidth, KeyedRateLimiter, Quota, RateLimiter};
use tower::{Layer as _, Service as _};

/// Who is measured: by name.
type Contender<'c> = (&'c str, Box<dyn Fn(u64) + 'c>);

/// Samples of a thousand awaited calls, in turns as well; the medians.
fn row(name: &str, contenders: &[Contender<'_>]) {
    if !wanted(name) {
        return;
    }
    const CALLS: u64 = 1000;
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for _ in 0..301 {
        for (samples, (_, calls)) in times.iter_mut().zip(contenders) {
            let begun = Instant::now();
            calls(CALLS);
            samples.push(begun.elapsed().as_nanos() as f64 / CALLS as f64);
        }
    }
    for (samples, (who, _)) in times.iter_mut().zip(contenders) {
        samples.sort_by(f64::total_cmp);
        println!("{name}: {who}: {:.1} ns", samples[samples.len() / 2]);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let plenty = Quota::new(Bandwidth::per_second(1_000_000_000).burst(1_000_000_000)).unwrap();
    let limiter = RateLimiter::builder("bench", plenty.clone())
        .clock(Clock::quanta())
        .build()
        .unwrap();
    let keys = KeyedRateLimiter::<u64>::builder("bench", plenty)
        .clock(Clock::quanta())
        .build()
        .unwrap();
    let peer = leaky_bucket::RateLimiter::builder()
        .max(1_000_000_000)
        .initial(1_000_000_000)
        .refill(1_000_000_000)
        .interval(Duration::from_millis(100))
        .build();
    let other =
        governor::DefaultDirectRateLimiter::direct(governor::Quota::per_second(NonZeroU32::MAX));
    row(
        "until_ready, admits",
        &[
            (
                "ours, until_ready",
                Box::new(|calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            black_box(limiter.until_ready().await.is_ok());
                        }
                    });
                }),
            ),
            (
                "ours, until_ready of a key",
                Box::new(|calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            let ready = keys.until_ready_within(&7, 1, Duration::MAX);
                            black_box(ready.await.is_ok());
                        }
                    });
                }),
            ),
            (
                "leaky-bucket, acquire_one",
                Box::new(|calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            peer.acquire_one().await;
                        }
                    });
                }),
            ),
            (
                "governor, until_ready",
                Box::new(|calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            other.until_ready().await;
                        }
                    });
                }),
            ),
        ],
    );
    let inner = tower::service_fn(|at: u64| std::future::ready(Ok::<_, std::io::Error>(at)));
    let layer = buttress_rate_limiter::tower::RateLimitLayer::new(limiter.clone());
    let service = std::cell::RefCell::new(layer.layer(inner));
    let layer = tower_resilience_ratelimiter::RateLimiterLayer::builder()
        .limit_for_period(1_000_000_000)
        .refresh_period(Duration::from_millis(100))
        .timeout_duration(Duration::ZERO)
        .build()
        .unwrap();
    let theirs = std::cell::RefCell::new(layer.layer(inner));
    row(
        "layer, admits",
        &[
            (
                "ours",
                Box::new(|calls| {
                    let mut service = service.borrow_mut();
                    runtime.block_on(async {
                        for _ in 0..calls {
                            black_box(service.call(7).await.is_ok());
                        }
                    });
                }),
            ),
            (
                "tower-resilience",
                Box::new(|calls| {
                    let mut service = theirs.borrow_mut();
                    runtime.block_on(async {
                        for _ in 0..calls {
                            black_box(service.call(7).await.is_ok());
                        }
                    });
                }),
            ),
        ],
    );
}
