//! What a call through a breaker costs, beside recloser, failsafe and tower-resilience, on one
//! thread and on two that contend. What is measured are windows in which each thread was on a
//! processor all the time, and all of them at the same time; the slower one's time counts.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]
#![allow(clippy::disallowed_methods, reason = "threads are timed by hand")]
#![allow(clippy::cast_precision_loss, reason = "a share of calls")]
#![allow(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use buttress_circuit_breaker::{CircuitBreaker, Policy, PolicyBuilder, tower::CircuitBreakerLayer};
use buttress_core::Clock;
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use failsafe::CircuitBreaker as _;
use nix::time::{ClockId, clock_gettime};
use recloser::AsyncRecloser;
use tower::{Layer, Service};

type Called = Result<u64, u64>;

fn ours(policy: PolicyBuilder) -> CircuitBreaker {
    CircuitBreaker::builder("bench")
        .policy(policy.build().unwrap())
        .clock(Clock::quanta())
        .build()
}

fn count() -> CircuitBreaker {
    ours(Policy::builder().count_window(100))
}

fn recloser() -> recloser::Recloser {
    recloser::Recloser::custom()
        .error_rate(0.5)
        .closed_len(100)
        .open_wait(Duration::from_secs(3600))
        .build()
}

/// How many calls one window of measuring has.
const WINDOW: u64 = 20_000;
/// How often a window is tried before a disturbed one is taken all the same.
const TRIES: u32 = 200;

/// One thread's part of a window.
struct Part {
    begun: Instant,
    ended: Instant,
    /// How long it was on a processor.
    ran: Duration,
}

fn ran() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

fn part(call: &mut impl FnMut(u64)) -> Part {
    let (begun, before) = (Instant::now(), ran());
    (0..WINDOW).for_each(call);
    let ended = Instant::now();
    Part {
        begun,
        ended,
        ran: ran().saturating_sub(before),
    }
}

/// Whether nothing else had the processors: each was on one nearly all the time, and nearly all of
/// that at the same time as the others.
fn is_undisturbed(parts: &[Part]) -> bool {
    let begun = parts.iter().map(|part| part.begun).max().unwrap();
    let ended = parts.iter().map(|part| part.ended).min().unwrap();
    let together = ended.saturating_duration_since(begun);
    parts.iter().all(|part| {
        let took = part.ended - part.begun;
        part.ran >= took.mul_f64(0.95) && together >= took.mul_f64(0.9)
    })
}

/// The time of so many calls by each thread, from windows in which nothing else ran. The machine
/// may be busy otherwise.
fn measure<F: FnMut(u64)>(threads: usize, calls: u64, make: &(impl Fn() -> F + Sync)) -> Duration {
    let windows = calls.div_ceil(WINDOW);
    let (start, goes_on) = (Barrier::new(threads), AtomicBool::new(true));
    let parts = Mutex::new(Vec::new());
    let mut total = Duration::ZERO;
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| {
                let mut call = make();
                loop {
                    start.wait();
                    if !goes_on.load(Relaxed) {
                        return;
                    }
                    let part = part(&mut call);
                    parts.lock().unwrap().push(part);
                    start.wait();
                }
            });
        }
        let mut call = make();
        for _ in 0..windows {
            for attempt in 1.. {
                start.wait();
                let part = part(&mut call);
                parts.lock().unwrap().push(part);
                start.wait();
                let parts = std::mem::take(&mut *parts.lock().unwrap());
                if is_undisturbed(&parts) || attempt == TRIES {
                    let slowest = parts.iter().map(|part| part.ended - part.begun).max();
                    total += slowest.unwrap();
                    break;
                }
            }
        }
        goes_on.store(false, Relaxed);
        start.wait();
    });
    // In whole windows more may have been made than asked for.
    total.mul_f64(calls as f64 / (windows * WINDOW) as f64)
}

/// On one thread and on two at once.
fn both<F: FnMut(u64)>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    make: impl Fn() -> F + Sync,
) {
    // The window fills before anything is measured.
    (0..1000).for_each(make());
    for threads in [1, 2] {
        group.bench_function(format!("{name}, {threads} at once"), |b| {
            b.iter_custom(|calls| measure(threads, calls, &make));
        });
    }
}

/// Fails once in 64.
fn sometimes(at: u64) -> Called {
    if at.is_multiple_of(64) {
        Err(at)
    } else {
        Ok(at)
    }
}

fn closed(c: &mut Criterion) {
    for (kind, result) in [
        ("closed, clean", Ok as fn(u64) -> Called),
        ("closed, one of 64 fails", sometimes),
    ] {
        let mut group = c.benchmark_group(kind);
        both(&mut group, "bare closure", || {
            |at| {
                black_box(result(black_box(at)).is_ok());
            }
        });
        let breaker = recloser();
        both(&mut group, "recloser", || {
            |at| {
                black_box(breaker.call(|| result(black_box(at))).is_ok());
            }
        });
        let backoff = failsafe::backoff::constant(Duration::from_secs(3600));
        let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
        let breaker = failsafe::Config::new().failure_policy(policy).build();
        both(&mut group, "failsafe, consecutive", || {
            |at| {
                black_box(breaker.call(|| result(black_box(at))).is_ok());
            }
        });
        for (name, policy) in [
            (
                "ours, consecutive",
                Policy::builder().no_window().consecutive_failures(5),
            ),
            ("ours, last 100", Policy::builder().count_window(100)),
            (
                "ours, last 10 s",
                Policy::builder().time_window(Duration::from_secs(10)),
            ),
        ] {
            let breaker = ours(policy);
            both(&mut group, name, || {
                |at| {
                    black_box(breaker.call_blocking(|| result(black_box(at))).is_ok());
                }
            });
        }
        group.finish();
    }
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    let breaker = recloser();
    both(&mut group, "recloser", || {
        |at| {
            black_box(breaker.call(|| Err::<u64, u64>(black_box(at))).is_ok());
        }
    });
    let breaker = ours(Policy::builder());
    breaker.open_for(Duration::from_secs(100_000));
    both(&mut group, "ours", || {
        |at| {
            let call = || Ok::<u64, u64>(black_box(at));
            black_box(breaker.call_blocking(call).is_ok());
        }
    });
    group.finish();
}

/// As an await does it: the future is made where it is polled.
#[inline(always)]
fn poll_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it does not wait"),
    }
}

#[derive(Clone, Copy)]
struct Answers;

impl Service<u64> for Answers {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(black_box(request)))
    }
}

fn layered<S: Service<u64>>(mut service: S) -> impl FnMut(u64) {
    move |at| {
        let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        black_box(ready.is_ready() && poll_once(service.call(at)).is_ok());
    }
}

fn futures(c: &mut Criterion) {
    let mut group = c.benchmark_group("async, closed, clean");
    let breaker = AsyncRecloser::from(recloser());
    both(&mut group, "recloser, call", || {
        |at| {
            black_box(poll_once(breaker.call(ready(Ok::<u64, u64>(black_box(at))))).is_ok());
        }
    });
    let breaker = count();
    both(&mut group, "ours, call", || {
        |at| {
            black_box(poll_once(breaker.call(ready(Ok::<u64, u64>(black_box(at))))).is_ok());
        }
    });
    both(&mut group, "bare service", || layered(Answers));
    let service = CircuitBreakerLayer::new(&count()).layer(Answers);
    both(&mut group, "ours, layer", || layered(service.clone()));
    let timed = ours(Policy::builder().time_window(Duration::from_secs(10)));
    let service_timed = CircuitBreakerLayer::new(&timed).layer(Answers);
    both(&mut group, "ours, layer, last 10 s", || {
        layered(service_timed.clone())
    });
    both(
        &mut group,
        "ours, layer, and a clone of the service",
        || {
            let service = service.clone();
            move |at| layered(service.clone())(at)
        },
    );
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .sliding_window_size(100)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let service = layer.layer(Answers);
    both(&mut group, "tower-resilience, layer", || {
        let _guard = runtime.enter();
        layered(service.clone())
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .sample_size(30)
}

criterion_group!(name = benches; config = quick(); targets = closed, open, futures);
criterion_main!(benches);
