//! An opinion as it is pinned: short, readable, and with a version before it.

use std::time::Duration;

use crate::{Counts, machine::fleet::Opinion};

/// `1 <what> <since, µs> <rest, µs> <calls> <failed>`. The counts are for whoever looks.
pub(super) fn written(opinion: &Opinion, counts: &Counts) -> Vec<u8> {
    let micros = |it: Duration| u64::try_from(it.as_micros()).unwrap_or(u64::MAX);
    let (what, since, rest) = match opinion {
        Opinion::Silent => ('s', 0, 0),
        Opinion::Well => ('w', 0, 0),
        Opinion::Failing { since, .. } => ('f', micros(*since), 0),
        Opinion::Open { since, rest } => ('o', micros(*since), micros(*rest)),
    };
    let (calls, failed) = counts.weighed();
    format!("1 {what} {since} {rest} {calls} {failed}").into_bytes()
}

/// What was pinned; `None` for what this version does not know. More behind it is a later one's.
pub(super) fn read(body: &[u8]) -> Option<Opinion> {
    let text = std::str::from_utf8(body).ok()?;
    let mut words = text.split(' ');
    let (version, what) = (words.next()?, words.next()?);
    if version != "1" {
        return None;
    }
    let mut number = || words.next()?.parse::<u64>().ok();
    let (since, rest) = (number()?, number()?);
    let (calls, _failed) = (number()?, number()?);
    let since = Duration::from_micros(since);
    match what {
        "s" => Some(Opinion::Silent),
        "w" => Some(Opinion::Well),
        "f" => Some(Opinion::Failing { calls, since }),
        "o" => Some(Opinion::Open {
            since,
            rest: Duration::from_micros(rest),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(calls: u32, failed: u32, since: u64, rest: u64) {
            let (since, rest) = (Duration::from_micros(since), Duration::from_micros(rest));
            let counts = Counts { calls: calls.into(), failed: failed.into(), ..Counts::default() };
            for opinion in [
                Opinion::Silent,
                Opinion::Well,
                Opinion::Failing { calls: calls.into(), since },
                Opinion::Open { since, rest },
            ] {
                let body = written(&opinion, &counts);
                prop_assert!(body.len() < 512);
                prop_assert_eq!(read(&body), Some(opinion));
            }
        }

        #[test]
        fn whatever_is_pinned_there_is_read_or_is_nothing(body: Vec<u8>, text: String) {
            let _opinion = (read(&body), read(text.as_bytes()));
        }
    }

    #[test]
    fn what_a_later_version_says_is_nothing_and_what_it_adds_is_left_out() {
        for unknown in [
            "",
            "1",
            "2 w 0 0 0 0",
            "1 x 0 0 0 0",
            "1 o -1 0 0 0",
            "1 o 0 0 0",
        ] {
            assert_eq!(read(unknown.as_bytes()), None, "{unknown}");
        }
        assert_eq!(read(b"1 w 0 0 7 0 and more"), Some(Opinion::Well));
    }
}
