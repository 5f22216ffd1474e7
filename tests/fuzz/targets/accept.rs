//! The `Accept` of any bytes, in any number of fields: never a panic, and always an answer.
#![no_main]

use buttress_error_envelope::{Format, Problem};
use http::{HeaderMap, HeaderValue, StatusCode, header::ACCEPT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for field in input.split(|byte| *byte == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(field) {
            headers.append(ACCEPT, value);
        }
    }
    let format = Format::negotiate(&headers);
    // The same each time, and in a form that can be sent.
    assert_eq!(Format::negotiate(&headers), format);
    let response = Problem::from_status(StatusCode::NOT_FOUND).render(format);
    assert_eq!(response.headers()["content-type"], format.media_type());
});
