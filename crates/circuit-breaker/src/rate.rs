//! A share of calls, as a fraction of whole numbers: thresholds are compared, never rounded.

use std::{fmt, str::FromStr};

use crate::PolicyError;

/// A share of calls: `part` of `whole`. Compared exactly with counts, so 495 failures of 1000 do
/// not reach 50 %, and 2 of 3 do reach `Rate::of(2, 3)`.
///
/// ```
/// use buttress_circuit_breaker::Rate;
///
/// assert!(Rate::percent(50).is_reached_by(5, 10));
/// assert!(!Rate::percent(50).is_reached_by(99, 200));
/// assert_eq!(Rate::percent(50), Rate::of(1, 2));
/// assert_eq!("2/3".parse(), Ok(Rate::of(2, 3)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    part: u32,
    whole: u32,
}

impl Rate {
    /// The largest `whole` that a policy takes, after the fraction is reduced.
    pub const MAX_WHOLE: u32 = 1_000_000;

    /// So many in a hundred.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self::of(percent, 100)
    }

    /// `part` of `whole`. What is no share (zero, more than the whole) is refused by the policy
    /// that it is given to, not here.
    #[must_use]
    pub const fn of(part: u32, whole: u32) -> Self {
        let (mut divisor, mut rest) = (whole, part);
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        if divisor == 0 {
            return Self { part, whole };
        }
        Self {
            part: part / divisor,
            whole: whole / divisor,
        }
    }

    /// Whether `count` of `total` is this share or more. Of nothing it is never reached.
    #[must_use]
    pub const fn is_reached_by(self, count: u64, total: u64) -> bool {
        // In 128 bits nothing can overflow, and on 64-bit targets it is one more instruction.
        total > 0 && count as u128 * self.whole as u128 >= total as u128 * self.part as u128
    }

    /// It is above zero, at most the whole, and fine enough to be compared without overflow.
    pub(crate) const fn is_share(self) -> bool {
        self.part > 0 && self.part <= self.whole && self.whole <= Self::MAX_WHOLE
    }

    /// Rounded down, for a share.
    pub(crate) const fn in_millionths(self) -> u64 {
        if self.whole == 0 {
            return 0;
        }
        self.part as u64 * 1_000_000 / self.whole as u64
    }

    /// For an atomic cell; `None` is zero.
    pub(crate) const fn pack(rate: Option<Self>) -> u64 {
        match rate {
            Some(rate) => (rate.part as u64) << 32 | rate.whole as u64,
            None => 0,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
    pub(crate) const fn unpack(bits: u64) -> Option<Self> {
        if bits == 0 {
            return None;
        }
        Some(Self {
            part: (bits >> 32) as u32,
            whole: bits as u32,
        })
    }
}

/// `50%`, or `2/3` where it is no whole percentage.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whole {
            whole @ 1..=100 if 100 % whole == 0 && self.part <= whole => {
                write!(f, "{}%", self.part * (100 / whole))
            }
            whole => write!(f, "{}/{whole}", self.part),
        }
    }
}

/// Reads what `Display` writes.
impl FromStr for Rate {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (part, whole) = match text.strip_suffix('%') {
            Some(percent) => (percent, "100"),
            None => text.split_once('/').unwrap_or(("", "")),
        };
        match (part.trim().parse(), whole.trim().parse()) {
            (Ok(part), Ok(whole)) => Ok(Self::of(part, whole)),
            _ => Err(PolicyError::new("rate", "written as `50%` or `2/3`")),
        }
    }
}

/// As text: `50%` or `2/3`.
#[cfg(feature = "serde")]
impl serde::Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_compared_and_never_rounded() {
        for (rate, count, total, reached) in [
            (Rate::percent(50), 99, 200, false),
            (Rate::percent(50), 100, 200, true),
            (Rate::of(2, 3), 1, 3, false),
            (Rate::of(2, 3), 2, 3, true),
            (Rate::percent(100), 7, 7, true),
            (Rate::percent(100), u64::MAX - 1, u64::MAX, false),
            (Rate::percent(1), 0, 0, false),
        ] {
            assert_eq!(rate.is_reached_by(count, total), reached, "{count}/{total}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for rate in [
            Rate::percent(1),
            Rate::percent(50),
            Rate::percent(100),
            Rate::of(2, 3),
            Rate::of(1, 1000),
        ] {
            assert_eq!(rate.to_string().parse(), Ok(rate), "{rate}");
            assert_eq!(Rate::unpack(Rate::pack(Some(rate))), Some(rate));
        }
        for wrong in [
            "",
            "50",
            "%",
            "-1%",
            "1/",
            "/2",
            "0.5",
            "1e3%",
            "99999999999%",
        ] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert_eq!(Rate::unpack(Rate::pack(None)), None);
    }

    #[test]
    fn no_two_numbers_make_it_panic() {
        for (part, whole) in [(0, 0), (0, 1), (1, 0), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
            let rate = Rate::of(part, whole);
            let _ = (rate.is_share(), rate.to_string(), rate.is_reached_by(1, 1));
        }
        assert!(
            !Rate::of(0, 1).is_share() && !Rate::of(2, 1).is_share() && !Rate::of(1, 0).is_share()
        );
    }
}
