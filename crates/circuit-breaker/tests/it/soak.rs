//! Everything at once for a while: and at rest nothing is left behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_circuit_breaker::{
    Abandoned, CircuitBreaker, OpenTime, Permit, Policy, PolicyBuilder, Rate, State,
    tower::CircuitBreakerLayer,
};
use buttress_core::{Clock, Verdict};
use buttress_testkit::{eventually::eventually, seed::Seed, tier::short_or_long};
use rand::{Rng as _, RngExt as _, rngs::StdRng};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::stand::MS;

const PERMITS: u32 = 3;

/// Short times, so that all states are gone through again and again.
fn lively() -> PolicyBuilder {
    Policy::builder()
        .count_window(20)
        .minimum_calls(10)
        .half_open_permits(PERMITS)
        .half_open_limit(None)
        .half_open_wait(2 * MS)
        .ramp(2 * MS, Rate::percent(30))
        .abandoned(Abandoned::Neutral)
        .open_time(OpenTime::growing(MS, 4 * MS))
}

/// Whether no probe is out: a round gives out as many as have not been settled in it, and no more.
fn all_slots_are_free(breaker: &CircuitBreaker) -> bool {
    if breaker.state() != State::HalfOpen {
        breaker.open_for(Duration::ZERO);
    }
    let probes: Vec<_> = (0..=PERMITS)
        .filter_map(|_| breaker.try_acquire().ok())
        .collect();
    let (given, settled) = (probes.len() as u64, breaker.counts().calls);
    probes.into_iter().for_each(Permit::ignore);
    given + settled == u64::from(PERMITS)
}

/// A call that does whatever a call can do.
async fn anything(chance: u32, health: bool) -> Result<u32, u32> {
    match chance % 16 {
        // A panic without a word, for there are thousands of them.
        0 => std::panic::resume_unwind(Box::new("soaked")),
        1 => std::future::pending().await,
        2..5 => tokio::task::yield_now().await,
        5 => tokio::time::sleep(MS).await,
        _ => {}
    }
    if health && chance % 32 != 31 {
        Ok(chance)
    } else {
        Err(chance)
    }
}

/// One of many callers, until it is told to stop.
async fn caller(
    breaker: CircuitBreaker,
    well: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    mut rng: StdRng,
) {
    let layer = CircuitBreakerLayer::new(&breaker);
    while !stop.load(Relaxed) {
        let (chance, how, health) = (rng.next_u32(), rng.next_u32(), well.load(Relaxed));
        let (shared, layer) = (breaker.clone(), layer.clone());
        // A task of its own, so that a panic is its own.
        let task = tokio::spawn(async move {
            let call = anything(chance, health);
            match how % 6 {
                0 => drop(shared.call(call).await),
                1 => drop(shared.call_with(call, |_| Ok(0)).await),
                2 => {
                    let service = service_fn(move |()| anything(chance, health));
                    drop(layer.waiting().layer(service).oneshot(()).await);
                }
                3 => {
                    let service = service_fn(move |()| anything(chance, health));
                    drop(layer.layer(service).oneshot(()).await);
                }
                4 => {
                    if let Ok(permit) = shared.acquire_owned().await {
                        let verdict = match call.await {
                            Ok(_) => Verdict::success(),
                            Err(code) if code % 5 == 0 => Verdict::ignored(),
                            Err(_) => Verdict::unknown(),
                        };
                        permit.record(verdict);
                    }
                }
                _ => {
                    let _isolated = (chance % 64 == 0).then(|| shared.isolate());
                    let by_status = |result: Result<&u32, &u32>| match result {
                        Ok(_) => Verdict::success(),
                        Err(_) => Verdict::not_done().with_retry_after(2 * MS),
                    };
                    drop(shared.call(call).by(by_status).await);
                }
            }
        });
        let abort = task.abort_handle();
        // What hangs is dropped, and of the others some are as well, wherever they are.
        if tokio::time::timeout(rng.random_range(1..4) * MS, task)
            .await
            .is_err()
        {
            abort.abort();
        }
        if chance % 256 == 7 {
            match how % 3 {
                0 => breaker.close(),
                1 => breaker.open_for(MS),
                _ => drop(breaker.set_policy(lively().half_open_permits(PERMITS).build().unwrap())),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_soak_with_faults_no_permit_and_no_slot_is_missing() {
    let tally = buttress_testkit::tally::suite("CB3");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let moves = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&moves);
    let breaker = CircuitBreaker::builder("soaked")
        .policy(lively().build().unwrap())
        .observer(move |event: &buttress_circuit_breaker::Event| {
            let moved = matches!(
                event.kind,
                buttress_circuit_breaker::EventKind::Moved { .. }
            );
            count.fetch_add(u64::from(moved), Relaxed);
        })
        .build();
    let (well, stop) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(false)),
    );
    let clock = Clock::tokio();
    let until = clock
        .now()
        .saturating_add(Duration::from_secs(short_or_long(4, 60)));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let rng = Seed::from(rng.next_u64()).rng();
            tokio::spawn(caller(
                breaker.clone(),
                Arc::clone(&well),
                Arc::clone(&stop),
                rng,
            ))
        })
        .collect();
    while clock.now() < until {
        tokio::time::sleep(rng.random_range(5..30) * MS).await;
        well.fetch_xor(true, Relaxed);
    }
    stop.store(true, Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(moves.load(Relaxed) > 100, "{moves:?}");
    // Aborted tasks are dropped when their runtime comes to it.
    eventually("all slots are free", Duration::from_secs(30), async || {
        all_slots_are_free(&breaker).then_some(())
    })
    .await;
    // A majority closes it; then the ramp may refuse one.
    while breaker.state() != State::Closed {
        breaker.try_acquire().unwrap().success();
    }
    tally.operations(moves.load(Relaxed));
}

#[test]
fn a_slot_that_is_lost_is_noticed_by_the_check_at_rest() {
    let tally = buttress_testkit::tally::suite("CB3");
    let breaker = CircuitBreaker::builder("leaks")
        .policy(lively().build().unwrap())
        .build();
    assert!(all_slots_are_free(&breaker));
    assert!(all_slots_are_free(&breaker));
    std::mem::forget(breaker.try_acquire_owned().unwrap());
    assert!(!all_slots_are_free(&breaker));
    tally.caught(1);
}
