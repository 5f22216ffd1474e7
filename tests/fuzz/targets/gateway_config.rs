//! The gateway's file, of any text: never a panic, and what is taken can be used.
#![no_main]

use buttress_circuit_breaker::CircuitBreaker;
use buttress_rate_limiter::RateLimiter;
use buttress_retry_backoff::{Budget, Dice, Retry};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the gateway reads the rest of it")]
#[path = "../../../examples/gateway/src/config.rs"]
mod config;

fuzz_target!(|input: &str| {
    let config: config::Config = match input.parse() {
        Ok(config) => config,
        Err(error) => {
            assert!(!format!("{error:#}").is_empty());
            return;
        }
    };
    assert!(!config.routes.is_empty());
    for route in config.routes {
        assert!(route.prefix.starts_with('/') && !route.upstreams.is_empty());
        let _ = Retry::new("fuzzed", route.retry).with_dice(Dice::seeded(1));
        let _ = Budget::new(route.budget);
        let breaker = CircuitBreaker::builder("fuzzed")
            .policy(route.breaker)
            .build();
        assert!(breaker.try_acquire().is_ok());
        if let Some(quota) = route.client {
            let _ = RateLimiter::builder("fuzzed", quota)
                .build()
                .unwrap()
                .check();
        }
    }
});
