//! A body, a query and a field of any bytes, as extractors read them: never a panic, and a refusal
//! repeats nothing of them but the path.
#![no_main]

use buttress_error_envelope::{Format, MAX_BODY, parse_header, parse_json, parse_query};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    #[expect(dead_code, reason = "its shape is what matters")]
    items: Vec<(String, u32)>,
    #[expect(dead_code, reason = "its shape is what matters")]
    note: Option<String>,
}

fuzz_target!(|input: &[u8]| {
    let mut refused = Vec::new();
    if let Err(problem) = parse_json::<Order>(input) {
        assert!([400, 422].contains(&problem.status().as_u16()));
        refused.push(problem);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        refused.extend(parse_query::<(u32, String)>(text).err());
        refused.extend(parse_query::<std::collections::HashMap<String, u8>>(text).err());
    }
    let name = HeaderName::from_static("if-match");
    if let Ok(value) = HeaderValue::from_bytes(input) {
        let headers = HeaderMap::from_iter([(name.clone(), value)]);
        refused.extend(parse_header::<i64>(&headers, &name).err());
    }
    for problem in refused {
        for format in [Format::Json, Format::ProblemJson, Format::RpcStatus] {
            let response = problem.render(format);
            assert!(response.body().len() <= MAX_BODY);
            serde_json::from_slice::<serde_json::Value>(response.body()).unwrap();
        }
    }
});
