//! Where random numbers come from: the thread's generator, a seed, or a test's own list.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// A source of random numbers, cheap to clone. Clones of a seeded or told one share its place, so
/// two calls never get the same sequence.
///
/// ```
/// use buttress_retry_backoff::Dice;
///
/// let (one, other) = (Dice::seeded(7), Dice::seeded(7));
/// assert_eq!(one.roll(), other.roll());
/// assert_ne!(one.roll(), one.roll());
/// ```
#[derive(Clone, Default)]
pub struct Dice {
    source: Source,
}

#[derive(Clone, Default)]
enum Source {
    #[default]
    Thread,
    Seeded(Arc<AtomicU64>),
    Told(Arc<(Box<[f64]>, AtomicUsize)>),
}

impl Dice {
    /// The thread's own generator, seeded by the operating system. The default.
    #[must_use]
    pub fn random() -> Self {
        Self::default()
    }

    /// The same numbers for the same seed, for tests and simulations.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            source: Source::Seeded(Arc::new(AtomicU64::new(seed))),
        }
    }

    /// These numbers, one after the other and then from the beginning, for tests. Each is held
    /// between 0 and 1; an empty list is all zeros.
    #[must_use]
    pub fn told(numbers: impl IntoIterator<Item = f64>) -> Self {
        let numbers = numbers.into_iter().map(|it| it.clamp(0.0, 1.0)).collect();
        Self {
            source: Source::Told(Arc::new((numbers, AtomicUsize::new(0)))),
        }
    }

    /// Whether it is the thread's own generator, which all have.
    pub(crate) const fn is_random(&self) -> bool {
        matches!(self.source, Source::Thread)
    }

    /// The next number, from 0 up to and without 1.
    #[must_use]
    pub fn roll(&self) -> f64 {
        match &self.source {
            Source::Thread => rand::random(),
            Source::Seeded(state) => unit(mixed(state)),
            Source::Told(told) => {
                let (numbers, place) = &**told;
                let at = place.fetch_add(1, Ordering::Relaxed);
                let at = at.checked_rem(numbers.len());
                at.and_then(|at| numbers.get(at)).copied().unwrap_or(0.0)
            }
        }
    }
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Thread => "Dice(random)",
            Source::Seeded(_) => "Dice(seeded)",
            Source::Told(_) => "Dice(told)",
        })
    }
}

/// `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): its
/// state is a counter, so an atomic addition is all the sharing it needs.
fn mixed(state: &AtomicU64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits are what a double holds exactly"
)]
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_stays_from_zero_to_below_one() {
        for dice in [Dice::random(), Dice::seeded(3)] {
            for _ in 0..10_000 {
                assert!((0.0..1.0).contains(&dice.roll()), "{dice:?}");
            }
        }
        assert!(unit(u64::MAX) < 1.0);
    }

    #[test]
    fn told_numbers_come_in_order_and_again_and_clones_share_the_place() {
        let dice = Dice::told([0.25, 7.0]);
        let rolled: Vec<_> = [&dice, &dice.clone(), &dice].map(Dice::roll).into();
        assert!(rolled.iter().eq(&[0.25, 1.0, 0.25]), "{rolled:?}");
        assert!(Dice::told([]).roll() < f64::EPSILON);
    }

    #[test]
    fn two_threads_seeds_give_two_sequences() {
        let (one, other) = (Dice::seeded(1), Dice::seeded(2));
        assert!((0..10).any(|_| (one.roll() - other.roll()).abs() > 0.01));
    }
}
