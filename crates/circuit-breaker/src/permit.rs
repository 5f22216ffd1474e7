//! The right to make one call, and the duty to say what came of it.

use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{Outcome, Verdict};

use crate::{breaker::Core, cell::Ticket};

/// One who leads to the breaker that gave a permit.
pub(crate) trait Leads {
    fn core(&self) -> &Core;
}

impl Leads for &Core {
    #[inline]
    fn core(&self) -> &Core {
        self
    }
}

impl Leads for Arc<Core> {
    #[inline]
    fn core(&self) -> &Core {
        self
    }
}

/// A ticket that is settled exactly once, if need be by being dropped.
pub(crate) struct Held<L: Leads> {
    lead: L,
    ticket: Ticket,
    settled: bool,
}

impl<L: Leads> Held<L> {
    #[inline]
    pub(crate) const fn new(lead: L, ticket: Ticket) -> Self {
        Self {
            lead,
            ticket,
            settled: false,
        }
    }

    /// The first time that it is told; afterwards it is silent.
    #[inline]
    pub(crate) fn settle(&mut self, outcome: Outcome, retry_after: Option<Duration>) {
        if !std::mem::replace(&mut self.settled, true) {
            self.lead.core().settle(self.ticket, outcome, retry_after);
        }
    }
}

#[cfg(feature = "tower")]
impl<L: Leads> Held<L> {
    #[inline]
    pub(crate) const fn is_settled(&self) -> bool {
        self.settled
    }

    /// Runs a part of the call. A panic in it is a failure, whoever catches it, and settles.
    #[inline]
    pub(crate) fn run<T>(&mut self, part: impl FnOnce() -> T) -> T {
        struct Settles<'a, L: Leads>(&'a mut Held<L>);
        impl<L: Leads> Drop for Settles<'_, L> {
            #[cold]
            fn drop(&mut self) {
                self.0.settle(Outcome::Failure, None);
            }
        }
        let unwinding = Settles(self);
        let result = part();
        std::mem::forget(unwinding);
        result
    }
}

/// Dropped only by a panic, which is a failure, whoever catches it.
pub(crate) struct Unwinding<'a> {
    core: &'a Core,
    ticket: Ticket,
}

impl<'a> Unwinding<'a> {
    #[inline]
    pub(crate) const fn new(core: &'a Core, ticket: Ticket) -> Self {
        Self { core, ticket }
    }

    /// The part of the call that could panic is over.
    #[inline]
    pub(crate) const fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unwinding<'_> {
    #[cold]
    fn drop(&mut self) {
        self.core.settle(self.ticket, Outcome::Failure, None);
    }
}

impl<L: Leads> Drop for Held<L> {
    #[inline]
    fn drop(&mut self) {
        if !self.settled {
            dropped(self.lead.core(), self.ticket);
        }
    }
}

#[cold]
pub(crate) fn dropped(core: &Core, ticket: Ticket) {
    if std::thread::panicking() {
        core.settle(ticket, Outcome::Failure, None);
    } else {
        core.abandoned(ticket);
    }
}

/// The right to make one call now. Say what came of it, by one of its methods, which take it.
///
/// Dropped without a word, it gives back what it held (the slot of a probe) and counts as the
/// policy's [`Abandoned`](crate::Abandoned) says; dropped by a panic, it is a failure. A call that
/// outlives a change of the breaker's state decides nothing any more.
///
/// A result is said once: a second time does not compile.
///
/// ```compile_fail,E0382
/// let breaker = buttress_circuit_breaker::CircuitBreaker::new("payments");
/// let permit = breaker.try_acquire().unwrap();
/// permit.success();
/// permit.failure();
/// ```
#[must_use = "a permit that is dropped at once is an abandoned call"]
pub struct Permit<'a> {
    held: Held<&'a Core>,
}

/// A [`Permit`] that is bound to no borrow: for a task of its own.
#[must_use = "a permit that is dropped at once is an abandoned call"]
pub struct OwnedPermit {
    held: Held<Arc<Core>>,
}

macro_rules! say {
    ($permit:ty) => {
        impl $permit {
            /// The target is well.
            pub fn success(mut self) {
                self.held.settle(Outcome::Success, None);
            }

            /// The target failed.
            pub fn failure(mut self) {
                self.held.settle(Outcome::Failure, None);
            }

            /// The call says nothing about the target. A probe's slot is free again.
            pub fn ignore(mut self) {
                self.held.settle(Outcome::Ignored, None);
            }

            /// What a classifier said. Its `retry_after` is heeded when this result opens the
            /// breaker.
            pub fn record(mut self, verdict: Verdict) {
                self.held.settle(verdict.outcome(), verdict.retry_after());
            }
        }

        impl fmt::Debug for $permit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($permit))
                    .field(&self.held.lead.core())
                    .finish()
            }
        }
    };
}

say!(Permit<'_>);
say!(OwnedPermit);

impl<'a> Permit<'a> {
    pub(crate) const fn new(core: &'a Core, ticket: Ticket) -> Self {
        Self {
            held: Held::new(core, ticket),
        }
    }
}

impl OwnedPermit {
    pub(crate) const fn new(core: Arc<Core>, ticket: Ticket) -> Self {
        Self {
            held: Held::new(core, ticket),
        }
    }
}
