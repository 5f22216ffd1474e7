//! The whole stack in a storm of faults, callers that leave and panics; and then at rest, where
//! nothing may be missing: places, probe slots, budget tokens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use buttress_circuit_breaker::{
    CircuitBreaker, OpenTime, Policy, Rate, State, tower::CircuitBreakerLayer,
};
use buttress_retry_backoff::{
    Backoff, Budget, BudgetRule, Jitter, Retry, RetryError, RetryPolicy,
    http::ByStatus,
    tower::{ReplayBody, RetryLayer},
};
use buttress_testkit::{seed::Seed, tier::short_or_long};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::Semaphore;
use tower::{
    Service, ServiceBuilder, limit::GlobalConcurrencyLimitLayer, timeout::TimeoutLayer,
    util::BoxCloneSyncService,
};

use crate::{
    stacks::{Boxed, http, send},
    target::{Act, Target},
};

const PLACES: usize = 6;
const PROBES: u32 = 3;
const CALLERS: usize = 24;

type Stack = BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, RetryError<Boxed>>;

/// All that could leak.
struct Shared {
    breaker: CircuitBreaker,
    places: Arc<Semaphore>,
    /// Each with what it holds at rest, after it has had time and successes.
    budgets: Vec<(Budget, u64)>,
}

impl Shared {
    fn new() -> Self {
        let policy = Policy::builder()
            .count_window(20)
            .failure_rate(Rate::percent(65))
            .half_open_permits(PROBES)
            // A slot that is lost in a round is lost for ever, and the breaker never closes.
            .half_open_limit(None)
            .open_time(OpenTime::growing(
                Duration::from_millis(5),
                Duration::from_millis(30),
            ))
            .build()
            .unwrap();
        let tokens = BudgetRule::Tokens {
            ttl: Duration::from_secs(1),
            per_second: 10,
            ratio: 0.5,
        };
        let throttle = BudgetRule::Throttle {
            max_tokens: 20,
            ratio: 0.5,
        };
        let quota = BudgetRule::Quota {
            capacity: 100,
            error: 5,
            timeout: 5,
            throttled: 5,
        };
        let budgets = [tokens, throttle, quota, BudgetRule::share()];
        let budgets = budgets.map(|rule| {
            let budget = Budget::new(rule).unwrap();
            let full = budget.available();
            (budget, full)
        });
        Self {
            breaker: CircuitBreaker::builder("target").policy(policy).build(),
            places: Arc::new(Semaphore::new(PLACES)),
            budgets: budgets.into(),
        }
    }

    /// Total time, retry, breaker, attempt timeout, limit: each call by one of the budgets.
    fn stacks(&self, panics: &Arc<AtomicU64>) -> Vec<Stack> {
        let policy = RetryPolicy::builder()
            .attempts(4)
            .backoff(Backoff::exponential(Duration::from_millis(2)))
            .total_time(Duration::from_millis(120))
            .build()
            .unwrap();
        let each = self.budgets.iter().map(|(budget, _)| {
            let retry = Retry::new("target", policy.clone()).with_budget(budget.clone());
            let stack = ServiceBuilder::new()
                .layer(RetryLayer::http(retry).unwrapped())
                .layer(CircuitBreakerLayer::new(&self.breaker).by(ByStatus))
                .map_err(Boxed::from)
                .layer(TimeoutLayer::new(Duration::from_millis(40)))
                .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
                    &self.places,
                )))
                .service(sometimes_panicking(http(), Arc::clone(panics)));
            BoxCloneSyncService::new(stack)
        });
        each.collect()
    }

    /// What is missing, once no call is under way and the target is well. `patience` is how long
    /// the breaker may take to close.
    async fn missing(&self, stacks: &[Stack], target: &Target, patience: Duration) -> Vec<String> {
        let mut missing = Vec::new();
        // Successes close the breaker, and fill those budgets that they fill.
        let well = async {
            for round in 0.. {
                for stack in stacks {
                    let _ = send(stack, target.get()).await;
                }
                if self.breaker.state() == State::Closed && round > 120 {
                    return;
                }
                if self.breaker.state() != State::Closed {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        if tokio::time::timeout(patience, well).await.is_err() {
            missing.push(format!(
                "a probe slot: the breaker is {}",
                self.breaker.state()
            ));
        }
        if self.places.available_permits() != PLACES {
            missing.push(format!(
                "places: {} are free",
                self.places.available_permits()
            ));
        }
        // The tokens that calls brought in, and what they owed, have expired by then.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        for (budget, full) in &self.budgets {
            if budget.available() != *full {
                missing.push(format!("tokens, of {full}: {budget:?}"));
            }
        }
        // In a new round, exactly as many probes are let through as the policy has.
        self.breaker.open_for(Duration::ZERO);
        let probes: Vec<_> = (0..)
            .map_while(|_| self.breaker.try_acquire().ok())
            .collect();
        if u32::try_from(probes.len()) != Ok(PROBES) {
            missing.push(format!("probe slots: {} were given", probes.len()));
        }
        missing
    }
}

/// Panics with the first poll of every `n`th call, where `n` is above 0.
fn sometimes_panicking<S>(
    inner: S,
    n: Arc<AtomicU64>,
) -> impl Service<
    Request<ReplayBody<Full<Bytes>>>,
    Response = S::Response,
    Error = S::Error,
    Future: Send,
> + Clone
+ Send
+ Sync
where
    S: Service<Request<ReplayBody<Full<Bytes>>>, Future: Send> + Clone + Send + Sync,
{
    let calls = Arc::new(AtomicU64::new(1));
    tower::util::MapFuture::new(inner, move |future| {
        let n = n.load(Relaxed);
        let panics = n > 0 && calls.fetch_add(1, Relaxed).is_multiple_of(n);
        async move {
            assert!(!panics, "on purpose");
            future.await
        }
    })
}

fn any_act(rng: &mut StdRng) -> Act {
    match rng.random_range(0..20) {
        0..10 => Act::Answer(200),
        10..13 => Act::Answer(503),
        13 => Act::Answer(429),
        14 => Act::Busy(1),
        15 => Act::Hang,
        16 => Act::DoneThenCut,
        17 => Act::Late(Duration::from_millis(rng.random_range(1..80))),
        18 => Act::DoneThen(500),
        _ => Act::Answer(404),
    }
}

/// Calls until `end`; leaves some calls half-way.
async fn caller(stacks: Vec<Stack>, target: Arc<Target>, seed: u64, end: Instant) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut calls = 0;
    while Instant::now() < end {
        let stack = &stacks[rng.random_range(0..stacks.len())];
        let key = format!("{seed}-{calls}");
        let request = match rng.random_range(0..3) {
            0 => target.get(),
            1 => target.post(None),
            _ => target.post(Some(&key)),
        };
        let call = async {
            if let Ok(response) = send(stack, request).await {
                let _ = response.into_body().collect().await;
            }
        };
        let call = std::panic::AssertUnwindSafe(call).catch_unwind();
        if rng.random_range(0..4) == 0 {
            let patience = Duration::from_micros(rng.random_range(0..30_000));
            let _ = tokio::time::timeout(patience, call).await;
        } else {
            let _ = call.await;
        }
        calls += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_place_no_probe_slot_and_no_token_is_lost_in_a_storm_of_faults() {
    let tally = buttress_testkit::tally::suite("X13");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let shared = Shared::new();
    let panics = Arc::new(AtomicU64::new(211));
    let stacks = shared.stacks(&panics);
    let target = Arc::new(Target::start([]).await);
    let faults = std::sync::Mutex::new(StdRng::seed_from_u64(rng.random()));
    target.otherwise(move || any_act(&mut faults.lock().unwrap()));
    silence_panics_on_purpose();

    let begun = Instant::now();
    let end = begun + Duration::from_secs(short_or_long(5, 60));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            tokio::spawn(caller(
                stacks.clone(),
                Arc::clone(&target),
                rng.random(),
                end,
            ))
        })
        .collect();
    let mut openings = 0;
    while Instant::now() < end {
        // An outage now and then, so that all of its states are gone through.
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..150))).await;
        if rng.random_range(0..4) == 0 {
            shared
                .breaker
                .open_for(Duration::from_millis(rng.random_range(0..30)));
            openings += 1;
        }
        assert!(
            target.most_under_way() <= PLACES + CALLERS,
            "a hung request may outlive its call"
        );
        assert!(shared.places.available_permits() <= PLACES);
    }
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    panics.store(0, Relaxed);
    target.otherwise(|| Act::Answer(200));
    let missing = shared
        .missing(&stacks, &target, Duration::from_secs(120))
        .await;
    println!(
        "{calls} calls, {} requests, {openings} openings by hand",
        target.requests()
    );
    assert_eq!(missing, Vec::<String>::new());
    assert!(calls > 500, "{calls}");
    tally.operations(calls);
}

/// What the check is worth: each of the three is lost on purpose, and found.
#[tokio::test]
async fn a_place_a_probe_slot_and_a_token_that_are_lost_are_found() {
    let tally = buttress_testkit::tally::suite("X13");
    // What ends by itself may take its time; what never does is given up soon.
    const LATE: Duration = Duration::from_secs(120);
    const SOON: Duration = Duration::from_secs(4);
    let target = Target::start([]).await;
    let none = Arc::new(AtomicU64::new(0));
    let whole = Shared::new();
    let stacks = whole.stacks(&none);
    assert_eq!(
        whole.missing(&stacks, &target, LATE).await,
        Vec::<String>::new()
    );

    let shared = Shared::new();
    let stacks = shared.stacks(&none);
    Arc::clone(&shared.places)
        .try_acquire_owned()
        .unwrap()
        .forget();
    let found = shared.missing(&stacks, &target, LATE).await;
    assert!(found[0].starts_with("places: 5"), "{found:?}");

    // A call that is forgotten half-way never gives back what it took of a share.
    let shared = Shared::new();
    let stacks = shared.stacks(&none);
    let hung = Target::always(Act::Answer(503)).await;
    let minute = Backoff::constant(Duration::from_secs(60)).with_jitter(Jitter::None);
    let slow = RetryPolicy::builder().backoff(minute);
    for (budget, _) in &shared.budgets {
        let retry = Retry::new("leaky", slow.clone().build().unwrap()).with_budget(budget.clone());
        let leaky = ServiceBuilder::new()
            .layer(RetryLayer::http(retry))
            .service(http());
        let mut call = Box::pin(send(&leaky, hung.get()));
        let half_way = tokio::time::timeout(Duration::from_millis(300), &mut call);
        assert!(half_way.await.is_err());
        std::mem::forget(call);
    }
    let found = shared.missing(&stacks, &target, LATE).await;
    assert!(found.iter().any(|it| it.contains("Share")), "{found:?}");

    let shared = Shared::new();
    let stacks = shared.stacks(&none);
    shared.breaker.open_for(Duration::ZERO);
    std::mem::forget(shared.breaker.try_acquire().unwrap());
    std::mem::forget(shared.breaker.try_acquire().unwrap());
    let found = shared.missing(&stacks, &target, SOON).await;
    assert!(found[0].starts_with("a probe slot"), "{found:?}");
    tally.caught(3);
}

/// Hundreds of panics on purpose would bury what a failed test says.
fn silence_panics_on_purpose() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some("on purpose") {
            before(panic);
        }
    }));
}
