//! The instruction at which a process dies.

use std::{env, fmt, str::FromStr};

/// Where, among the operations of a store, the process is aborted.
///
/// A test starts its worker as a process of its own, with the point in its environment; the worker
/// hands it to [`Plan::crash`](super::Plan::crash). It proves what a death at *operations* does;
/// what dies between them, at any instruction, is for a kill after a random time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CrashPoint {
    /// Before the operation of this number, counted from 1, begins.
    Before(u32),
    /// When it has ended, before its result is returned.
    After(u32),
}

impl CrashPoint {
    /// The variable that hands a point to a process.
    pub const VARIABLE: &'static str = "BUTTRESS_TEST_CRASH_POINT";

    /// The point that the environment gives this process, if it does.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let text = env::var(Self::VARIABLE).ok()?;
        match text.parse() {
            Ok(point) => Some(point),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Both points of each of so many operations.
pub fn crash_points(operations: u32) -> impl Iterator<Item = CrashPoint> {
    (1..=operations).flat_map(|number| [CrashPoint::Before(number), CrashPoint::After(number)])
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(number) => write!(f, "before {number}"),
            Self::After(number) => write!(f, "after {number}"),
        }
    }
}

/// Not written as [`CrashPoint`]'s `Display` writes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no crash point: {0:?}, where `before 3` or `after 3` is one")]
pub struct NoCrashPoint(String);

impl FromStr for CrashPoint {
    type Err = NoCrashPoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(' ').and_then(|(word, number)| {
            let number = number.parse().ok()?;
            match word {
                "before" => Some(Self::Before(number)),
                "after" => Some(Self::After(number)),
                _ => None,
            }
        });
        parsed.ok_or_else(|| NoCrashPoint(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_survive_the_way_through_the_environment() {
        let points: Vec<_> = crash_points(3).collect();
        assert_eq!(points.len(), 6);
        for point in points {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        for bad in ["", "before", "before x", "during 3"] {
            assert!(bad.parse::<CrashPoint>().is_err(), "{bad}");
        }
    }
}
