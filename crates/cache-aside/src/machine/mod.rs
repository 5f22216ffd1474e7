//! The rules: how an entry stands at a moment, how long it lives, and which loads are too old.
//!
//! No clock, no lock, no waiting: the time and the chances are arguments.

mod draw;

use std::time::Duration;

use buttress_core::Moment;

use self::draw::{advance, portion};
pub(crate) use self::draw::{shorten, xfetch_is_due};

/// How an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is served, and nothing is done about it: fresh, or stale and lately tried in vain.
    Quiet,
    /// It is fresh, is served, and should be loaded anew behind the caller's back.
    Early,
    /// It is stale, is served, and should be loaded anew behind the caller's back.
    Stale,
    /// It is stale, and is served only when the load fails or takes too long.
    Expired,
    /// It is served no more. Its value may still be confirmed by a conditional load.
    Dead,
}

/// How long an entry is good for what. All moments are of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Before this, it is served and nothing is done. Not after what follows, except for a throttle.
    pub(crate) quiet_until: Moment,
    pub(crate) fresh_until: Moment,
    /// Stale, it is served at once until then, while it is loaded anew.
    pub(crate) revalidate_until: Moment,
    /// Stale, it is served until then instead of an error.
    pub(crate) error_until: Moment,
    /// The load's duration times beta, when early refreshes are drawn; zero when they are not.
    pub(crate) scale: Duration,
}

/// From what a life is reckoned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) ttl: Duration,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) early: Early,
}

/// When a fresh entry is loaded anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Early {
    Never,
    /// After this share of its time to live.
    At(f64),
    /// By a draw at each read, weighted by this much of the load's duration.
    Drawn(Duration),
}

impl Life {
    /// The life of an entry that comes in now.
    pub(crate) fn begin(terms: &Terms, now: Moment) -> Self {
        let fresh_until = now.saturating_add(terms.ttl);
        let (quiet_until, scale) = match terms.early {
            Early::Never => (fresh_until, Duration::ZERO),
            Early::At(share) => (
                now.saturating_add(portion(terms.ttl, share)),
                Duration::ZERO,
            ),
            // Before this no draw, however lucky, is due: so most reads need none.
            Early::Drawn(scale) => {
                let longest = advance(scale, 0);
                (back(fresh_until, longest).max(now), scale)
            }
        };
        Self {
            quiet_until,
            fresh_until,
            revalidate_until: fresh_until.saturating_add(terms.stale_while_revalidate),
            error_until: fresh_until.saturating_add(terms.stale_if_error),
            scale,
        }
    }

    /// How it stands. A moment that is reached is over: what is fresh until `t` is stale at `t`.
    #[inline]
    pub(crate) fn standing(&self, now: Moment) -> Standing {
        if now < self.quiet_until {
            Standing::Quiet
        } else if now < self.fresh_until {
            Standing::Early
        } else if now < self.revalidate_until {
            Standing::Stale
        } else if now < self.error_until {
            Standing::Expired
        } else {
            Standing::Dead
        }
    }

    /// Whether it may be served instead of an error.
    pub(crate) fn outlives_an_error(&self, now: Moment) -> bool {
        now < self.last()
    }

    /// A load has failed, or takes too long: for so long no other is begun, as long as there is
    /// something that may be served. Nothing is served longer for it.
    pub(crate) fn hush(&mut self, now: Moment, throttle: Duration) {
        let quiet = now.saturating_add(throttle).min(self.last());
        self.quiet_until = self.quiet_until.max(quiet);
    }

    /// It is stale from now on, and is served only instead of an error, for as long as if its time had
    /// ended by itself. Says whether it may be.
    pub(crate) fn expire(&mut self, now: Moment) -> bool {
        if now < self.fresh_until {
            let stale_if_error = self.error_until.saturating_since(self.fresh_until);
            self.error_until = now.saturating_add(stale_if_error);
            self.fresh_until = now;
        }
        self.revalidate_until = self.revalidate_until.min(now);
        self.quiet_until = self.quiet_until.min(now);
        now < self.error_until
    }

    /// What comes from elsewhere has no more of its life left than it has there.
    pub(crate) fn no_longer_than(&mut self, fresh_until: Moment, ends: Moment) {
        self.fresh_until = self.fresh_until.min(fresh_until);
        self.quiet_until = self.quiet_until.min(self.fresh_until);
        self.revalidate_until = self.revalidate_until.min(ends);
        self.error_until = self.error_until.min(ends);
    }

    /// It is looked at again at that time, whatever its own life. Instead of an error it is served still.
    pub(crate) fn cap(&mut self, until: Moment) {
        self.fresh_until = self.fresh_until.min(until);
        self.quiet_until = self.quiet_until.min(until);
        self.revalidate_until = self.revalidate_until.min(until);
    }

    /// The end of all serving.
    fn last(&self) -> Moment {
        self.fresh_until
            .max(self.revalidate_until)
            .max(self.error_until)
    }
}

/// Whether an entry that was born at `born` is of the past: an invalidation came after its load began.
/// Numbers are of one counter: an invalidation takes the next, a load begins with the last.
pub(crate) const fn is_fenced(born: u64, invalidated: u64) -> bool {
    born < invalidated
}

fn back(moment: Moment, by: Duration) -> Moment {
    let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    Moment::from_nanos(moment.as_nanos().saturating_sub(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: f64) -> Moment {
        Moment::START.saturating_add(Duration::from_secs_f64(seconds))
    }

    fn life(early: Early) -> Life {
        let terms = Terms {
            ttl: 10 * SECOND,
            stale_while_revalidate: 5 * SECOND,
            stale_if_error: 20 * SECOND,
            early,
        };
        Life::begin(&terms, at(0.0))
    }

    #[test]
    fn an_entry_goes_through_its_standings_and_each_ends_when_its_moment_is_reached() {
        let life = life(Early::At(0.8));
        let expected = [
            (7.999, Standing::Quiet),
            (8.0, Standing::Early),
            (9.999, Standing::Early),
            (10.0, Standing::Stale),
            (15.0, Standing::Expired),
            (29.999, Standing::Expired),
            (30.0, Standing::Dead),
        ];
        for (moment, standing) in expected {
            assert_eq!(life.standing(at(moment)), standing, "{moment}");
        }
    }

    #[test]
    fn a_throttle_keeps_quiet_and_lengthens_no_life() {
        let mut life = life(Early::Never);
        life.hush(at(16.0), 2 * SECOND);
        assert_eq!(life.standing(at(17.9)), Standing::Quiet);
        assert_eq!(life.standing(at(18.0)), Standing::Expired);
        life.hush(at(29.0), 100 * SECOND);
        assert_eq!(life.standing(at(29.9)), Standing::Quiet);
        assert_eq!(life.standing(at(30.0)), Standing::Dead);
    }

    #[test]
    fn what_is_expired_by_hand_is_served_only_instead_of_an_error() {
        let mut life = life(Early::Never);
        assert!(life.expire(at(3.0)));
        assert_eq!(life.standing(at(3.0)), Standing::Expired);
        assert_eq!(life.standing(at(22.999)), Standing::Expired);
        assert_eq!(life.standing(at(23.0)), Standing::Dead);
        assert!(life.expire(at(20.0)), "a second time changes nothing");
        assert_eq!(life.standing(at(22.999)), Standing::Expired);
        assert!(!life.expire(at(23.0)));
    }

    #[test]
    fn no_draw_is_made_where_none_can_be_due() {
        let life = life(Early::Drawn(Duration::from_millis(100)));
        let longest = advance(Duration::from_millis(100), 0);
        assert_eq!(
            life.quiet_until,
            at(10.0 - longest.as_secs_f64()),
            "{longest:?}"
        );
        let slow = self::life(Early::Drawn(10 * SECOND));
        assert_eq!(slow.quiet_until, at(0.0));
    }

    #[test]
    fn a_load_begun_before_an_invalidation_is_of_the_past_and_one_begun_after_it_is_not() {
        assert!(is_fenced(4, 5));
        assert!(!is_fenced(5, 5));
        assert!(!is_fenced(6, 5));
    }
}
