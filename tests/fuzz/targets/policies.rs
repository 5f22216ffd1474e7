//! Policies as they stand in a file, of any text: never a panic, and what is read can be written,
//! read again, and used.
#![no_main]

use buttress_circuit_breaker::{CircuitBreaker, Policy};
use buttress_rate_limiter::{Quota, RateLimiter};
use buttress_retry_backoff::{Dice, RetryPolicy};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

/// Read as JSON and as TOML; what can be read comes back as it was.
fn read<T: DeserializeOwned + Serialize>(input: &str) -> Vec<T> {
    let all: Vec<T> = [serde_json::from_str(input).ok(), toml::from_str(input).ok()]
        .into_iter()
        .flatten()
        .collect();
    for one in &all {
        let written = serde_json::to_value(one).unwrap();
        let again: T = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), written);
    }
    all
}

fuzz_target!(|input: &str| {
    for policy in read::<RetryPolicy>(input) {
        let _ = buttress_retry_backoff::Retry::new("fuzzed", policy).with_dice(Dice::seeded(1));
    }
    for policy in read::<Policy>(input) {
        let breaker = CircuitBreaker::builder("fuzzed").policy(policy).build();
        for _ in 0..20 {
            if let Ok(permit) = breaker.try_acquire() {
                permit.failure();
            }
        }
    }
    for quota in read::<Quota>(input) {
        let limiter = RateLimiter::builder("fuzzed", quota).build().unwrap();
        for _ in 0..20 {
            let _ = limiter.check_n(u64::from(u32::MAX));
            let _ = limiter.check();
        }
    }
});
