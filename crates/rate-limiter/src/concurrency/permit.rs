//! A place.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use buttress_core::Moment;
use tokio::sync::OwnedSemaphorePermit;

use super::{Core, adaptive::Became};

/// A place. Dropping it gives it back; [`succeeded`](Self::succeeded) says as well that what it was for
/// came to its end, and [`overloaded`](Self::overloaded) that the target has too much, which an adaptive
/// limit learns from. How long something took that failed, or that somebody gave up, says nothing; but
/// that it took longer than [`Aimd`](super::Aimd) allows is known.
#[must_use = "dropping it gives the place back"]
pub struct ConcurrencyPermit {
    core: Arc<Core>,
    place: Option<OwnedSemaphorePermit>,
    since: Moment,
    running: usize,
    became: Became,
}

impl ConcurrencyPermit {
    pub(super) fn new(core: &Arc<Core>, place: OwnedSemaphorePermit) -> Self {
        let running = core.running.fetch_add(1, Relaxed) + 1;
        let since = match core.adaptive {
            Some(_) => core.clock.now(),
            None => Moment::START,
        };
        Self {
            core: Arc::clone(core),
            place: Some(place),
            since,
            running,
            became: Became::Unknown,
        }
    }

    /// Gives it back, with what it took.
    pub fn succeeded(mut self) {
        self.became = Became::Succeeded;
    }

    /// Gives it back, and says that the target has too much: it answered 503 or 429, or did not answer in
    /// time. [`Aimd`](super::Aimd) and [`Vegas`](super::Vegas) have fewer places then;
    /// [`Gradient2`](super::Gradient2) looks at latencies alone.
    pub fn overloaded(mut self) {
        self.became = Became::Overloaded;
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        self.core.running.fetch_sub(1, Relaxed);
        if let Some(place) = self.place.take()
            && self.core.must_go()
        {
            place.forget();
        }
        if let Some(adaptive) = &self.core.adaptive
            && adaptive.heeds(self.became)
        {
            let now = self.core.clock.now();
            if let Some(places) = adaptive.sample(self.since, now, self.running, self.became) {
                self.core.set_limit(places);
            }
        }
    }
}

impl fmt::Debug for ConcurrencyPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyPermit").finish_non_exhaustive()
    }
}
