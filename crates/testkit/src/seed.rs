//! Chance that can be repeated.

use std::{env, thread};

use crate::tally::Counting;
use rand::{SeedableRng as _, rngs::StdRng};

/// The variable that repeats a run.
pub const SEED_VARIABLE: &str = "BUTTRESS_TEST_SEED";

/// A seed that says itself when the test that holds it panics, and how to repeat it.
///
/// It repeats the test's own choices. What the scheduler, the network and other processes choose
/// it does not repeat.
#[derive(Debug)]
pub struct Seed(u64);

impl Seed {
    /// The one that [`SEED_VARIABLE`] gives, or else a fresh one.
    ///
    /// # Panics
    ///
    /// When the variable holds no number.
    #[must_use]
    pub fn new() -> Self {
        let given = env::var(SEED_VARIABLE).ok().filter(|it| !it.is_empty());
        let seed = given.map_or_else(rand::random, |text| match text.parse() {
            Ok(seed) => seed,
            Err(_) => panic!("{SEED_VARIABLE} is no number: {text:?}"),
        });
        Counting::here().seed(seed);
        Self(seed)
    }

    /// A generator that chooses the same whenever the seed is the same.
    #[must_use]
    pub fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.0)
    }
}

impl Default for Seed {
    fn default() -> Self {
        Self::new()
    }
}

impl From<u64> for Seed {
    fn from(seed: u64) -> Self {
        Self(seed)
    }
}

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "libtest shows it with the failed test")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{SEED_VARIABLE}={} repeats these choices", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let [one, same, other] = [7, 7, 8].map(|seed| Seed::from(seed).rng().next_u64());
        assert_eq!(one, same);
        assert_ne!(one, other);
    }
}
