//! How much a test does: little in every run, much in the torture run.

use std::env;

/// The variable that asks for the long tier: `long`. Without it, or with `short`, it is the short one.
pub const TIER_VARIABLE: &str = "BUTTRESS_TEST_TIER";

/// `short` in an ordinary run, `long` in the torture run: rounds, seeds, seconds.
///
/// What the test asserts is the same in both.
///
/// # Panics
///
/// When [`TIER_VARIABLE`] names no tier.
#[must_use]
pub fn short_or_long<T>(short: T, long: T) -> T {
    match env::var(TIER_VARIABLE).as_deref() {
        Err(_) | Ok("" | "short") => short,
        Ok("long") => long,
        Ok(other) => panic!("{TIER_VARIABLE} is short or long, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_short_unless_it_is_asked_to_be_long() {
        let long = env::var(TIER_VARIABLE).is_ok_and(|tier| tier == "long");
        assert_eq!(short_or_long(false, true), long);
    }
}
