//! A kept answer of any bytes, and the fingerprint of any body: never a panic, and nothing is read
//! that would be written in another way.
#![no_main]

use buttress_idempotency::http::{FingerprintRule, StoredResponse};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    if let Ok(stored) = StoredResponse::decode(input) {
        assert_eq!(stored.encode(), input);
        let _ = stored.into_replay();
    }
    let of = |body: &[u8]| FingerprintRule::of_json(body).to_bytes();
    assert_eq!(of(input), of(input));
    // The same JSON, written in another way, is the same request. Numbers that a double would
    // change are left as they stand, so only what has none is written anew here.
    if let Ok(value) = serde_json::from_slice::<Value>(input)
        && !has_numbers(&value)
    {
        let (pretty, compact) = (format!("{value:#}"), format!("{value}"));
        assert_eq!(of(pretty.as_bytes()), of(compact.as_bytes()));
    }
});

fn has_numbers(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::Array(all) => all.iter().any(has_numbers),
        Value::Object(all) => all.values().any(has_numbers),
        _ => false,
    }
}
