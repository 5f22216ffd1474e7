//! The service that is called: it does so much a second and no more, and for a while nothing at all.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use buttress_core::{Clock, Moment};

/// How much work may wait. What comes beyond is refused.
const LONGEST_QUEUE: Duration = Duration::from_millis(800);
/// A refusal is work too: so many of them cost as much as one answer.
const REFUSALS_FOR_ONE: u32 = 4;
/// When it begins to fail, and for how long. It refuses everything then, at once.
pub(crate) const OUTAGE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// The load is counted in steps of this.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// It could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// One server with one queue.
#[derive(Debug)]
pub(crate) struct Service {
    clock: Clock,
    /// How many requests it answers a second.
    capacity: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when it has work.
    busy_until: Duration,
    /// Requests in each step.
    load: Vec<u32>,
}

impl Service {
    /// One whose time begins now.
    pub(crate) fn new(clock: Clock, capacity: u32) -> Self {
        Self {
            clock,
            capacity,
            state: Mutex::default(),
        }
    }

    /// The time since the simulation began.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now().saturating_since(Moment::START)
    }

    /// Sends a request, and waits for its answer. Who stops waiting does not take his request out
    /// of the queue: the service does not know that he has gone.
    pub(crate) async fn ask(&self) -> Result<(), Refused> {
        let now = self.now();
        let wait = self.take(now).ok_or(Refused)?;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// How long the answer takes, unless it is a refusal.
    fn take(&self, now: Duration) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let step = usize::try_from(now.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
        if state.load.len() <= step {
            state.load.resize(step + 1, 0);
        }
        state.load[step] += 1;
        let (begin, length) = OUTAGE;
        if (begin..begin + length).contains(&now) {
            // What was in the queue is lost with it.
            state.busy_until = now;
            return None;
        }
        let work = Duration::from_secs(1) / self.capacity;
        let begins = state.busy_until.max(now);
        if begins - now > LONGEST_QUEUE {
            state.busy_until = begins + work / REFUSALS_FOR_ONE;
            return None;
        }
        state.busy_until = begins + work;
        Some(state.busy_until - now)
    }

    /// Requests in each step until now.
    pub(crate) fn load(&self) -> Vec<u32> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.load.clone()
    }
}
