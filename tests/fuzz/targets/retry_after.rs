//! When to come back, in any words: never a panic, from a second to a day, whatever the status.
#![no_main]

use std::time::{Duration, SystemTime};

use buttress_core::{RetryAfter, classify::http::by_status};
use http::{HeaderMap, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    for now in [0, 1_700_000_000, 253_402_300_799] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        if let Some(wait) = RetryAfter::parse(&text, now) {
            assert!((1..=86_400).contains(&wait.as_secs()));
            assert_eq!(RetryAfter::parse(&wait.to_string(), now), Some(wait));
        }
    }
    let Ok(value) = HeaderValue::from_bytes(input) else {
        return;
    };
    for name in ["retry-after", "grpc-retry-pushback-ms", "x-ratelimit-reset"] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.clone());
        for status in [200, 301, 408, 429, 500, 503] {
            let verdict = by_status(StatusCode::from_u16(status).unwrap(), &headers);
            if let Some(wait) = verdict.retry_after() {
                assert!(wait <= RetryAfter::MAX);
            }
        }
    }
});
