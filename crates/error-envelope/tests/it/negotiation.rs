//! Any `Accept` is answered, and a well-formed one as a plain reading of the rule has it.

use buttress_error_envelope::Format;
use buttress_testkit::{seed::Seed, tier::short_or_long};
use http::{HeaderMap, HeaderValue, header::ACCEPT};
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

const RANGES: [&str; 7] = [
    "*/*",
    "application/*",
    "application/json",
    "application/problem+json",
    "text/html",
    "application/xml",
    "text/*",
];

/// Ranges with their qualities in thousandths.
fn ranges(rng: &mut StdRng) -> Vec<(&'static str, u16)> {
    let qualities = [0, 1, 500, 500, 999, 1000, 1000];
    let count = rng.random_range(0..6);
    let mut one = || {
        (
            *RANGES.choose(rng).unwrap(),
            *qualities.choose(rng).unwrap(),
        )
    };
    (0..count).map(|_| one()).collect()
}

/// RFC 9110, section 12.5.1: of the ranges that match, the most specific one counts.
fn quality(ranges: &[(&str, u16)], media_type: &str) -> u16 {
    for range in [media_type, "application/*", "*/*"] {
        let of_range = ranges.iter().filter(|(it, _)| *it == range);
        if let Some(quality) = of_range.map(|(_, quality)| *quality).max() {
            return quality;
        }
    }
    0
}

fn written(rng: &mut StdRng, (range, quality): (&str, u16)) -> String {
    let range = if rng.random_bool(0.2) {
        range.to_uppercase()
    } else {
        range.to_owned()
    };
    match quality {
        1000 if rng.random_bool(0.5) => range,
        1000 => format!("{range};q=1.000"),
        _ if rng.random_bool(0.3) => format!("{range} ; q=0.{quality:03}"),
        _ => format!("{range};charset=utf-8;q=0.{quality:03}"),
    }
}

#[test]
fn a_list_is_answered_as_the_rule_says_in_one_field_or_several() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut problems = 0;
    for _ in 0..short_or_long(30_000, 3_000_000) {
        let ranges = ranges(&mut rng);
        let mut headers = HeaderMap::new();
        let mut field = String::new();
        for range in &ranges {
            let range = written(&mut rng, *range);
            if rng.random_bool(0.3) {
                headers.append(ACCEPT, HeaderValue::from_str(&field).unwrap());
                field.clear();
            }
            field = format!(
                "{field}{}{range}",
                if field.is_empty() { "" } else { " , " }
            );
        }
        headers.append(ACCEPT, HeaderValue::from_str(&field).unwrap());
        let prefers =
            quality(&ranges, "application/problem+json") > quality(&ranges, "application/json");
        let expected = if prefers {
            Format::ProblemJson
        } else {
            Format::Json
        };
        assert_eq!(Format::negotiate(&headers), expected, "{headers:?}");
        problems += u32::from(prefers);
    }
    assert!(problems > 1_000, "{problems}");
}

#[test]
fn ee2_no_accept_makes_it_panic() {
    let tally = buttress_testkit::tally::suite("EE2");
    let seed = Seed::new();
    let mut rng = seed.rng();
    for _ in 0..short_or_long(100_000, 10_000_000) {
        let ranges = ranges(&mut rng);
        let mut field = String::new();
        for range in ranges {
            field.push_str(&written(&mut rng, range));
            field.push(',');
        }
        let mut field = field.into_bytes();
        for _ in 0..rng.random_range(0..6) {
            let at = rng.random_range(0..=field.len());
            let any = if rng.random_bool(0.5) {
                *b";,=\"\\q/*+".choose(&mut rng).unwrap()
            } else {
                rng.random()
            };
            field.insert(at, any);
        }
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&field) {
            headers.append(ACCEPT, value);
        }
        let format = Format::negotiate(&headers);
        assert_eq!(Format::negotiate(&headers), format);
    }
    tally.faults(short_or_long(100_000, 10_000_000));
}
