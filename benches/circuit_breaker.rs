//! What a call through a breaker costs, beside recloser, failsafe and tower-resilience, on one
//! thread and on two that contend; and what it allocates.
//!
//! A machine has other things to do, and two threads that take turns on a processor do not
//! contend. So what counts are windows of some thousand calls in which each thread was on a
//! processor nearly all the time, and all of them together. Printed is the median of the slower
//! one's time, in ns a call; a `?` stands where too few windows were undisturbed.
//!
//! An argument is taken for a part of the groups' names to run.

#![allow(clippy::print_stdout, reason = "the table is what it makes")]
#![allow(clippy::disallowed_methods, reason = "threads are timed by hand")]
#![allow(clippy::cast_precision_loss, reason = "a share of calls")]
#![allow(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]

use std::{
    alloc::System,
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::{black_box, spin_loop},
    pin::pin,
    sync::{
        Barrier, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use buttress_circuit_breaker::{CircuitBreaker, Policy, PolicyBuilder, tower::CircuitBreakerLayer};
use buttress_core::Clock;
use failsafe::CircuitBreaker as _;
use nix::time::{ClockId, clock_gettime};
use recloser::AsyncRecloser;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
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

/// How long a window of measuring is to take: so long that threads which begin it a little apart
/// spend nearly all of it together, and so short that they are seldom disturbed.
const WINDOW: Duration = Duration::from_micros(300);
/// So many undisturbed windows are enough, and so long they are waited for.
const ENOUGH: usize = 41;
const PATIENCE: Duration = Duration::from_secs(3);

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

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

fn part(calls: u64, call: &mut impl FnMut(u64)) -> Part {
    let (begun, before) = (Instant::now(), ran());
    (0..calls).for_each(call);
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

/// Lets threads begin together that are on processors already. One that is not is not waited for.
struct Meeting {
    sleeps: Barrier,
    come: AtomicU64,
    threads: u64,
}

impl Meeting {
    fn wait(&self) {
        self.sleeps.wait();
        let round = self.come.fetch_add(1, SeqCst) / self.threads;
        for _ in 0..20_000 {
            if self.come.load(SeqCst) >= (round + 1) * self.threads {
                return;
            }
            spin_loop();
        }
    }
}

/// How many calls fill a window.
fn calls_a_window(call: &mut impl FnMut(u64)) -> u64 {
    let calls = 2000;
    let best = (0..20).map(|_| {
        let part = part(calls, call);
        part.ended - part.begun
    });
    let best = best.min().unwrap().max(Duration::from_nanos(1));
    let calls = WINDOW.as_nanos() * u128::from(calls) / best.as_nanos();
    u64::try_from(calls).unwrap().max(100)
}

/// The median of undisturbed windows, in ns a call, and whether there were enough of them.
fn measure<F: FnMut(u64)>(threads: usize, make: &(impl Fn() -> F + Sync)) -> (f64, bool) {
    let calls = calls_a_window(&mut make());
    let goes_on = AtomicBool::new(true);
    let start = Meeting {
        sleeps: Barrier::new(threads),
        come: AtomicU64::new(0),
        threads: threads as u64,
    };
    let parts = Mutex::new(Vec::new());
    let (mut calm, mut all) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| {
                let mut call = make();
                loop {
                    start.wait();
                    if !goes_on.load(Relaxed) {
                        return;
                    }
                    let part = part(calls, &mut call);
                    parts.lock().unwrap().push(part);
                    start.sleeps.wait();
                }
            });
        }
        let (mut call, begun) = (make(), Instant::now());
        while calm.len() < ENOUGH && begun.elapsed() < PATIENCE {
            start.wait();
            let part = part(calls, &mut call);
            parts.lock().unwrap().push(part);
            start.sleeps.wait();
            let parts = std::mem::take(&mut *parts.lock().unwrap());
            let slowest = parts.iter().map(|part| part.ended - part.begun).max();
            let each = slowest.unwrap().as_secs_f64() * 1e9 / calls as f64;
            if is_undisturbed(&parts) {
                calm.push(each);
            }
            all.push(each);
        }
        goes_on.store(false, Relaxed);
        start.wait();
    });
    let enough = calm.len() >= 5;
    let mut windows = if enough { calm } else { all };
    windows.sort_by(f64::total_cmp);
    (windows[windows.len() / 2], enough)
}

/// The rows of one table.
struct Group;

impl Group {
    /// The group, unless the arguments ask for others.
    fn new(name: &'static str) -> Option<Self> {
        let asked: Vec<_> = std::env::args()
            .skip(1)
            .filter(|it| !it.starts_with('-'))
            .collect();
        let runs = asked.is_empty() || asked.iter().any(|part| name.contains(part));
        runs.then(|| println!("\n{name:<44} 1 thread  2 threads  allocations"));
        runs.then_some(Self)
    }

    /// One row: on one thread and on two at once.
    fn both<F: FnMut(u64)>(&self, name: &str, make: impl Fn() -> F + Sync) {
        // The window fills before anything is measured.
        (0..1000).for_each(make());
        let mut call = make();
        call(1);
        let region = Region::new(COUNTED);
        call(2);
        let allocations = region.change().allocations;
        let [one, two] = [1, 2].map(|threads| {
            let (each, enough) = measure(threads, &make);
            format!("{each:.1}{}", if enough { ' ' } else { '?' })
        });
        println!("{name:<44} {one:>9} {two:>9} {allocations:>9}");
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

fn closed() {
    for (kind, result) in [
        ("closed, clean", Ok as fn(u64) -> Called),
        ("closed, one of 64 fails", sometimes),
    ] {
        let Some(group) = Group::new(kind) else {
            continue;
        };
        group.both("bare closure", || {
            |at| {
                black_box(result(black_box(at)).is_ok());
            }
        });
        let breaker = recloser();
        group.both("recloser", || {
            |at| {
                black_box(breaker.call(|| result(black_box(at))).is_ok());
            }
        });
        let backoff = failsafe::backoff::constant(Duration::from_secs(3600));
        let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
        let breaker = failsafe::Config::new().failure_policy(policy).build();
        group.both("failsafe, consecutive", || {
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
            group.both(name, || {
                |at| {
                    black_box(breaker.call_blocking(|| result(black_box(at))).is_ok());
                }
            });
        }
    }
}

fn open() {
    let Some(group) = Group::new("open") else {
        return;
    };
    let breaker = recloser();
    group.both("recloser", || {
        |at| {
            black_box(breaker.call(|| Err::<u64, u64>(black_box(at))).is_ok());
        }
    });
    let breaker = ours(Policy::builder());
    breaker.open_for(Duration::from_secs(100_000));
    group.both("ours", || {
        |at| {
            let call = || Ok::<u64, u64>(black_box(at));
            black_box(breaker.call_blocking(call).is_ok());
        }
    });
}

/// As an await does it: the future is made where it is polled.
#[inline(always)]
fn poll_once<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        // Pending is only what waits for a lock of its own (tower-resilience on two threads).
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => spin_loop(),
        }
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

fn futures() {
    let Some(group) = Group::new("async, closed, clean") else {
        return;
    };
    let breaker = AsyncRecloser::from(recloser());
    group.both("recloser, call", || {
        |at| {
            black_box(poll_once(breaker.call(ready(Ok::<u64, u64>(black_box(at))))).is_ok());
        }
    });
    let breaker = count();
    group.both("ours, call", || {
        |at| {
            black_box(poll_once(breaker.call(ready(Ok::<u64, u64>(black_box(at))))).is_ok());
        }
    });
    group.both("bare service", || layered(Answers));
    let service = CircuitBreakerLayer::new(&count()).layer(Answers);
    group.both("ours, layer", || layered(service.clone()));
    let timed = ours(Policy::builder().time_window(Duration::from_secs(10)));
    let service_timed = CircuitBreakerLayer::new(&timed).layer(Answers);
    group.both("ours, layer, last 10 s", || layered(service_timed.clone()));
    group.both("ours, layer, and a clone of the service", || {
        let service = service.clone();
        move |at| layered(service.clone())(at)
    });
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .sliding_window_size(100)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let service = layer.layer(Answers);
    group.both("tower-resilience, layer", || {
        let _guard = runtime.enter();
        layered(service.clone())
    });
}

fn main() {
    closed();
    open();
    futures();
}
