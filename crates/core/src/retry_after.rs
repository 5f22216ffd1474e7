//! When to come back, as HTTP says it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// The value of a `Retry-After` field (RFC 9110, section 10.2.3), in whole seconds, at least one.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::RetryAfter;
///
/// assert_eq!(RetryAfter::from(Duration::from_millis(1200)).to_string(), "2");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryAfter {
    seconds: u64,
}

impl RetryAfter {
    /// The longest wait that is believed: a day. A longer one is cut to it.
    pub const MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// Reads a field's value: a number of seconds, or one of the three forms of an HTTP date,
    /// which is taken relative to `now`.
    ///
    /// What cannot be read is `None`, as if the field were absent; what is too long is cut to
    /// [`RetryAfter::MAX`], a date in the past to one second. No input makes it panic.
    #[must_use]
    pub fn parse(value: &str, now: SystemTime) -> Option<Self> {
        let value = value.trim_matches([' ', '\t']);
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // Digits that do not fit are a number all the same, and a large one.
            let seconds = value.parse().unwrap_or(u64::MAX);
            return Some(Self::from(Duration::from_secs(seconds)));
        }
        // The longest of the three forms, asctime and RFC 850 included, has 33 characters.
        if value.len() > 40 {
            return None;
        }
        let date = httpdate::parse_http_date(value).ok()?;
        Some(Self::from(date.duration_since(now).unwrap_or_default()))
    }

    /// The number of seconds, from 1 to 86400.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.seconds
    }

    /// The same as a duration.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Rounds up, for one who comes back early is refused again.
impl From<Duration> for RetryAfter {
    fn from(wait: Duration) -> Self {
        let wait = wait.min(Self::MAX);
        let begun = u64::from(wait.subsec_nanos() > 0);
        Self {
            seconds: (wait.as_secs() + begun).max(1),
        }
    }
}

/// The field's value.
impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seconds.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    fn then() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn whole_seconds_rounded_up_and_never_zero() {
        for (wait, seconds) in [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(1), 1),
            (Duration::from_millis(1001), 2),
            (Duration::MAX, 86_400),
        ] {
            assert_eq!(RetryAfter::from(wait).as_secs(), seconds, "{wait:?}");
        }
    }

    #[test]
    fn reads_seconds_and_all_three_dates() {
        let now = then() - Duration::from_secs(90);
        for value in [
            "90",
            " 90\t",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let read = RetryAfter::parse(value, now).map(RetryAfter::as_secs);
            assert_eq!(read, Some(90), "{value}");
        }
    }

    #[test]
    fn hostile_values_are_cut_or_ignored() {
        let digits = "9".repeat(20_000);
        let cut = RetryAfter::parse(&digits, then()).map(RetryAfter::as_duration);
        assert_eq!(cut, Some(RetryAfter::MAX));
        let far = RetryAfter::parse("Fri, 31 Dec 9999 23:59:59 GMT", then());
        assert_eq!(far.map(RetryAfter::as_duration), Some(RetryAfter::MAX));
        let past = RetryAfter::parse("Mon, 01 Jan 1990 00:00:00 GMT", then());
        assert_eq!(past.map(RetryAfter::as_secs), Some(1));
        for value in [
            "", " ", "-1", "+1", "1.5", "1e308", "NaN", "inf", "١", "1 2", "soon",
        ] {
            assert_eq!(RetryAfter::parse(value, then()), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic_or_leave_its_range(value in ".*") {
            if let Some(read) = RetryAfter::parse(&value, then()) {
                prop_assert!((1..=86_400).contains(&read.as_secs()));
            }
        }
    }
}
