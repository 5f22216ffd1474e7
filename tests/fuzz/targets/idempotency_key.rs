//! An idempotency key of any bytes, in any number of fields: never a panic, and only what the rule allows.
#![no_main]

use buttress_idempotency::http::{IDEMPOTENCY_KEY, KeyRule};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for field in input.split(|byte| *byte == b'\n').take(3) {
        if let Ok(value) = HeaderValue::from_bytes(field) {
            headers.append(IDEMPOTENCY_KEY, value);
        }
    }
    let fields = headers.get_all(IDEMPOTENCY_KEY).iter().count();
    for (shortest, longest) in [(1, 255), (8, 64)] {
        let rule = KeyRule::new(shortest, longest).unwrap();
        let Ok(Some(key)) = rule.read(&headers) else {
            continue;
        };
        assert_eq!(fields, 1, "of two nobody knows which was meant");
        let bytes = key.as_bytes();
        assert!((shortest..=longest).contains(&bytes.len()));
        assert!(bytes.iter().all(|byte| matches!(byte, b' '..=b'~')));
        // The same key in quotes is the same key.
        let escaped = String::from_utf8_lossy(bytes)
            .replace('\\', "\\\\")
            .replace('"', "\\\"");
        let quoted = HeaderValue::from_str(&format!("\"{escaped}\"")).unwrap();
        let quoted = HeaderMap::from_iter([(IDEMPOTENCY_KEY, quoted)]);
        assert_eq!(rule.read(&quoted).unwrap(), Some(key));
    }
});
