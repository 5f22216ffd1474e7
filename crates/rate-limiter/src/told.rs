//! The name of a handle, and who hears of what happens to it.

use std::{borrow::Cow, time::Duration};

use buttress_core::{Observers, Rejection, RejectionKind};
use tracing::{Level, level_filters::LevelFilter};

use crate::{Decision, Event, EventKind};

#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) name: Cow<'static, str>,
    pub(crate) observers: Observers<Event>,
}

impl Told {
    pub(crate) fn tell(&self, kind: EventKind) {
        let event = || Event {
            name: self.name.clone(),
            kind,
        };
        if !matches!(kind, EventKind::Allowed { .. }) {
            event().trace();
        }
        self.observers.tell(event);
    }

    /// Tells of a decision, and gives what the caller is told: in shadow he is let through.
    #[inline]
    pub(crate) fn decided(&self, decision: Decision, permits: u64, shadow: bool) -> Decision {
        let allowed = decision.is_allowed();
        if !self.is_silent_of(allowed) {
            self.tell_of(decision, permits, shadow);
        }
        if shadow && !allowed {
            return decision.let_through();
        }
        decision
    }

    /// Whether nobody hears of such a decision.
    #[inline]
    pub(crate) fn is_silent_of(&self, allowed: bool) -> bool {
        self.observers.is_silent() && (allowed || LevelFilter::current() < Level::DEBUG)
    }

    /// By value: what is passed by reference has to be in memory, also where nobody listens.
    #[cold]
    #[inline(never)]
    fn tell_of(&self, decision: Decision, permits: u64, shadow: bool) {
        self.tell(if decision.is_allowed() {
            EventKind::Allowed { permits }
        } else {
            EventKind::Refused {
                permits,
                retry_after: decision.retry_after(),
                shadow,
            }
        });
    }

    /// The rejection of one who does not wait.
    pub(crate) fn turned_away(&self, wait: Option<Duration>) -> Rejection {
        self.tell(EventKind::TurnedAway);
        let rejection = Rejection::new(RejectionKind::RateLimited, self.name.clone());
        match wait {
            Some(wait) => rejection.with_retry_after(wait),
            None => rejection,
        }
    }
}
