//! How delays grow before jitter is put on them.

use std::{fmt, sync::Arc, time::Duration};

use super::scaled;

/// What a user's own function says.
pub(super) type Custom = Arc<dyn Fn(u32) -> Duration + Send + Sync>;

#[derive(Clone)]
pub(super) enum Shape {
    Constant { delay: Duration },
    Linear { first: Duration, step: Duration },
    Exponential { first: Duration, factor: f64 },
    Fibonacci { first: Duration },
    Custom(Custom),
}

impl Shape {
    /// The delay before retry `n`, counted from 0.
    pub(super) fn nominal(&self, n: u32) -> Duration {
        match self {
            Self::Constant { delay } => *delay,
            Self::Linear { first, step } => first.saturating_add(step.saturating_mul(n)),
            Self::Exponential { first, factor } => {
                scaled(*first, factor.powi(i32::try_from(n).unwrap_or(i32::MAX)))
            }
            Self::Fibonacci { first } => first.saturating_mul(fibonacci(n)),
            Self::Custom(delay) => delay(n),
        }
    }

    /// The first one.
    pub(super) fn first(&self) -> Duration {
        self.nominal(0)
    }

    /// Whether it is the exponential that the decorrelated jitters are defined for.
    pub(super) fn doubles(&self) -> bool {
        matches!(self, Self::Exponential { factor, .. } if (factor - 2.0).abs() < f64::EPSILON)
    }
}

/// The n-th of 1, 1, 2, 3, 5, …; the largest number once they do not fit (from the 47th on).
fn fibonacci(n: u32) -> u32 {
    let (mut this, mut next) = (1_u32, 1_u32);
    for _ in 0..n.min(64) {
        (this, next) = (next, this.saturating_add(next));
    }
    this
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Constant { delay }, Self::Constant { delay: theirs }) => delay == theirs,
            (
                Self::Linear { first, step },
                Self::Linear {
                    first: begin,
                    step: by,
                },
            ) => (first, step) == (begin, by),
            (
                Self::Exponential { first, factor },
                Self::Exponential {
                    first: begin,
                    factor: by,
                },
            ) => (first, factor) == (begin, by),
            (Self::Fibonacci { first }, Self::Fibonacci { first: theirs }) => first == theirs,
            (Self::Custom(one), Self::Custom(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant { delay } => write!(f, "constant {delay:?}"),
            Self::Linear { first, step } => write!(f, "linear {first:?} + n · {step:?}"),
            Self::Exponential { first, factor } => write!(f, "exponential {first:?} · {factor}ⁿ"),
            Self::Fibonacci { first } => write!(f, "fibonacci · {first:?}"),
            Self::Custom(_) => f.write_str("custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fibonacci_begins_with_two_ones_and_ends_at_the_largest_number() {
        let numbers: Vec<_> = (0..8).map(fibonacci).collect();
        assert_eq!(numbers, [1, 1, 2, 3, 5, 8, 13, 21]);
        assert_eq!(fibonacci(46), 2_971_215_073);
        assert_eq!(fibonacci(47), u32::MAX);
        assert_eq!(fibonacci(u32::MAX), u32::MAX);
    }
}
