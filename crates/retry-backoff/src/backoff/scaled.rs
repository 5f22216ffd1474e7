//! A duration times a factor.

use std::time::Duration;

/// `duration · factor`, rounded to the nanosecond. What is too long is the longest, what is
/// negative or no number is zero: neither a policy nor a header can make it panic.
pub(crate) fn scaled(duration: Duration, factor: f64) -> Duration {
    seconds(duration.as_secs_f64() * factor)
}

/// The same of so many seconds.
pub(super) fn seconds(seconds: f64) -> Duration {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) => duration,
        Err(_) if seconds > 0.0 => Duration::MAX,
        Err(_) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_factor_makes_it_panic() {
        let second = Duration::from_secs(1);
        for (duration, factor, result) in [
            (second, 0.25, Duration::from_millis(250)),
            (second, f64::INFINITY, Duration::MAX),
            (second, f64::NAN, Duration::ZERO),
            (second, -1.0, Duration::ZERO),
            (Duration::ZERO, f64::INFINITY, Duration::ZERO),
            (Duration::MAX, 2.0, Duration::MAX),
        ] {
            assert_eq!(scaled(duration, factor), result, "{duration:?} · {factor}");
        }
    }
}
