//! The delays of a backoff, one after the other.

use std::{iter::FusedIterator, time::Duration};

use super::{Backoff, Place};
use crate::Dice;

/// The delays of a [`Backoff`], without end. A new one begins anew.
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    place: Place,
    dice: Dice,
}

impl Delays {
    pub(super) fn new(backoff: Backoff, dice: Dice) -> Self {
        Self {
            backoff,
            place: Place::default(),
            dice,
        }
    }

    /// Goes back to the first delay.
    pub fn reset(&mut self) {
        self.place = Place::default();
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.backoff.next(&mut self.place, || self.dice.roll()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl FusedIterator for Delays {}
