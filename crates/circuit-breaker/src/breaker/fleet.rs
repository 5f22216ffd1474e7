//! What a fleet makes of one breaker's state, and does to it.

use std::sync::atomic::Ordering::Relaxed;

use buttress_core::Moment;

use super::Core;
use crate::{
    Cause,
    cell::{Opens, Seen},
};

impl Core {
    /// When it was closed last, by its probes or by hand.
    pub(crate) fn closed_at(&self, seen: &Seen) -> Option<Moment> {
        let by_hand = self.closed_by_hand.load(Relaxed);
        let by_hand = (by_hand > 0).then(|| Moment::from_nanos(by_hand));
        by_hand.max(seen.steps.closed)
    }

    /// Opens it because enough others of its fleet are open: until then, or for as long as its own
    /// policy says. The generation of that opening; none, when its state has changed since it was
    /// looked at, or the time is over.
    pub(crate) fn open_by_fleet(&self, seen: &Seen, until: Option<Moment>) -> Option<u64> {
        let now = self.now();
        let opens = Opens {
            generation: seen.generation,
            cause: Cause::Fleet,
            counts: self.cell.counts(now),
            openings: self.cell.openings(),
        };
        match until {
            None => self.open(&opens, None),
            Some(until) if until > now => {
                let moved = self.cell.open(&opens, now, until);
                self.moved(moved);
            }
            Some(_) => {}
        }
        let then = self.cell.seen();
        let opened = then.is_open_by_fleet() && then.generation != seen.generation;
        opened.then_some(then.generation)
    }
}
