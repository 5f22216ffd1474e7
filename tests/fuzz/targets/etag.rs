//! `If-None-Match` of any bytes: never a panic, and nothing matches that is no tag.
#![no_main]

use buttress_cache_aside::http::{EntityTag, is_not_modified};
use http::{HeaderMap, HeaderValue, header::IF_NONE_MATCH};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut fields = HeaderMap::new();
    for field in input.split(|byte| *byte == b'\n').take(4) {
        if let Ok(value) = HeaderValue::from_bytes(field) {
            fields.append(IF_NONE_MATCH, value);
        }
    }
    let ours = "\"seven\"";
    if is_not_modified(&fields, ours) {
        let told = |word: &[u8]| input.windows(word.len()).any(|it| it == word);
        assert!(told(b"*") || told(ours.as_bytes()), "nothing of it matches");
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Some(tag) = EntityTag::parse(text)
    {
        assert!(tag.weakly_matches(tag));
        assert_eq!(tag.strongly_matches(tag), !tag.is_weak());
    }
});
