//! What was drawn, as it is pinned: short, readable, and with a version before it.

use crate::budget::Drawn;

/// `1 <drawn> <calls>`, in the parts of the rule.
pub(super) fn written(drawn: Drawn) -> Vec<u8> {
    format!("1 {} {}", drawn.drawn, drawn.calls).into_bytes()
}

/// What was pinned; `None` for what this version does not know. More behind it is a later one's.
pub(super) fn read(body: &[u8]) -> Option<Drawn> {
    let mut words = std::str::from_utf8(body).ok()?.split(' ');
    if words.next()? != "1" {
        return None;
    }
    let mut number = || words.next()?.parse::<i64>().ok();
    Some(Drawn {
        drawn: number()?,
        calls: number()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_and_whatever_else_is_there_does_no_harm(
            drawn: i64, calls: i64, other: Vec<u8>,
        ) {
            let said = Drawn { drawn, calls };
            prop_assert_eq!(read(&written(said)), Some(said));
            let _anything = read(&other);
        }
    }

    #[test]
    fn what_a_later_version_says_is_nothing_and_what_it_adds_is_left_out() {
        for unknown in ["", "1", "1 2", "2 1 1", "1 x 1", "1 1 99999999999999999999"] {
            assert_eq!(read(unknown.as_bytes()), None, "{unknown}");
        }
        assert_eq!(
            read(b"1 -5 2 more"),
            Some(Drawn {
                drawn: -5,
                calls: 2
            })
        );
    }
}
