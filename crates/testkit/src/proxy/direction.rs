//! One way of a proxy: its weather, its trap, and what has passed.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::Cut;

/// What lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weather {
    pub(super) hole: bool,
    pub(super) delay: Duration,
    /// Bytes a second.
    pub(super) rate: Option<u32>,
}

/// What strikes once.
#[derive(Debug)]
pub(super) enum Trap {
    Bytes(u64),
    Pattern(Vec<u8>, Cut),
}

/// What is done with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    /// So much of it is passed on, and the connection is reset.
    Cut(usize),
    /// It is passed on, and the connection is reset once there is an answer.
    CutAnswer,
}

#[derive(Debug, Default)]
pub(super) struct Direction {
    weather: watch::Sender<Weather>,
    trap: Mutex<Option<Trap>>,
    passed: AtomicU64,
}

impl Direction {
    pub(super) fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    pub(super) fn set(&self, trap: Trap) {
        *self.trap() = Some(trap);
    }

    pub(super) fn heal(&self) {
        *self.trap() = None;
        self.weather.send_replace(Weather::default());
    }

    pub(super) fn weather(&self) -> watch::Receiver<Weather> {
        self.weather.subscribe()
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Decides about `piece`, before which the connection had `tail` this way.
    pub(super) fn judge(&self, tail: &mut Vec<u8>, piece: &[u8]) -> Fate {
        let mut trap = self.trap();
        let seen = tail.len();
        tail.extend_from_slice(piece);
        let fate = match &mut *trap {
            None => Fate::Pass,
            Some(Trap::Bytes(left)) => {
                let length = piece.len() as u64;
                match usize::try_from(*left) {
                    Ok(passed) if passed < piece.len() => Fate::Cut(passed),
                    _ => {
                        *left -= length;
                        Fate::Pass
                    }
                }
            }
            Some(Trap::Pattern(pattern, cut)) => {
                let found = match pattern.len() {
                    0 => None,
                    length => tail.windows(length).position(|window| window == pattern),
                };
                match (found, *cut) {
                    (None, _) => Fate::Pass,
                    // What of it came with an earlier piece has passed, and is no pattern.
                    (Some(at), Cut::Before) => Fate::Cut(at.saturating_sub(seen)),
                    (Some(_), Cut::During) => Fate::Cut(piece.len()),
                    (Some(_), Cut::Answer) => Fate::CutAnswer,
                }
            }
        };
        let keep = match &*trap {
            Some(Trap::Pattern(pattern, _)) => pattern.len().saturating_sub(1),
            _ => 0,
        };
        tail.drain(..tail.len().saturating_sub(keep));
        if fate != Fate::Pass {
            *trap = None;
        }
        fate
    }

    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(trap: Trap, pieces: &[&str]) -> Vec<Fate> {
        let direction = Direction::default();
        direction.set(trap);
        let mut tail = Vec::new();
        pieces
            .iter()
            .map(|piece| direction.judge(&mut tail, piece.as_bytes()))
            .collect()
    }

    #[test]
    fn a_pattern_is_found_wherever_the_pieces_part() {
        let pattern = |cut| Trap::Pattern(b"COMMIT".to_vec(), cut);
        let text = "xxCOMMITyy";
        for at in 0..text.len() {
            let (one, other) = text.split_at(at);
            let found = fates(pattern(Cut::During), &[one, other]);
            let whole_in_one = at >= 8;
            let expected = if whole_in_one {
                [Fate::Cut(one.len()), Fate::Pass]
            } else {
                [Fate::Pass, Fate::Cut(other.len())]
            };
            assert_eq!(found, expected, "{at}");
        }
        assert_eq!(fates(pattern(Cut::Before), &[text]), [Fate::Cut(2)]);
        assert_eq!(
            fates(pattern(Cut::Before), &["xxCOM", "MITyy"]),
            [Fate::Pass, Fate::Cut(0)]
        );
        assert_eq!(
            fates(pattern(Cut::Answer), &["COMMIT", "COMMIT"]),
            [Fate::CutAnswer, Fate::Pass]
        );
        assert_eq!(
            fates(Trap::Pattern(Vec::new(), Cut::Before), &["x"]),
            [Fate::Pass]
        );
    }

    #[test]
    fn bytes_are_counted_over_pieces_and_the_next_one_is_cut() {
        let after = |bytes| fates(Trap::Bytes(bytes), &["four", "four"]);
        assert_eq!(after(0), [Fate::Cut(0), Fate::Pass]);
        assert_eq!(after(3), [Fate::Cut(3), Fate::Pass]);
        assert_eq!(after(4), [Fate::Pass, Fate::Cut(0)]);
        assert_eq!(after(6), [Fate::Pass, Fate::Cut(2)]);
        assert_eq!(after(8), [Fate::Pass, Fate::Pass]);
    }
}
