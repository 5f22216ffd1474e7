//! Waiting, half-open, for a free slot or the verdict.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use buttress_core::{Clock, Rejection};

use super::Core;
use crate::{
    State,
    cell::{Refusal, Ticket},
};

/// A ticket; out of probes, after a wait that the policy bounds. Dropping the future leaves
/// nothing behind: a ticket is returned by the very poll that got it.
pub(crate) async fn acquire(core: &Core) -> Result<Ticket, Rejection> {
    let mut refusal = match core.admit() {
        Ok(ticket) => return Ok(ticket),
        Err(refusal) => refusal,
    };
    let wait = core.policy().wait();
    if refusal == Refusal::Full && !wait.is_zero() {
        let mut patience = std::pin::pin!(tokio::time::sleep(wait));
        while refusal == Refusal::Full {
            let mut rings = std::pin::pin!(core.bell.notified());
            // What happens from here on is heard, so the state is looked at afterwards.
            rings.as_mut().enable();
            match core.admit() {
                Ok(ticket) => return Ok(ticket),
                Err(now) => refusal = now,
            }
            if refusal == Refusal::Full && !heard(rings, patience.as_mut()).await {
                break;
            }
        }
    }
    core.refused(refusal)
}

/// Whether it rang before the time was over.
async fn heard(rings: impl Future<Output = ()>, patience: impl Future<Output = ()>) -> bool {
    let (mut rings, mut patience) = (std::pin::pin!(rings), std::pin::pin!(patience));
    std::future::poll_fn(|context| {
        if rings.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        patience.as_mut().poll(context).map(|()| false)
    })
    .await
}

/// The same on a thread that may block. The wait is on real time, whatever the breaker's clock.
pub(crate) fn acquire_blocking(core: &Core) -> Result<Ticket, Rejection> {
    if let Some(rest) = core.open_rest() {
        return core.refused(Refusal::Now(State::Open, Some(rest)));
    }
    match core.admit() {
        Ok(ticket) => Ok(ticket),
        Err(Refusal::Full) if !core.policy().wait().is_zero() => block(core, core.policy().wait()),
        Err(refusal) => core.refused(refusal),
    }
}

#[cold]
fn block(core: &Core, wait: Duration) -> Result<Ticket, Rejection> {
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let clock = Clock::tokio();
    let until = clock.now().saturating_add(wait);
    loop {
        let mut rings = pin!(core.bell.notified());
        // What happens from here on wakes this thread, so the state is looked at afterwards.
        let heard = rings.as_mut().poll(&mut Context::from_waker(&waker));
        match core.admit() {
            Ok(ticket) => return Ok(ticket),
            Err(Refusal::Full) if heard == Poll::Pending => {}
            Err(Refusal::Full) => continue,
            Err(refusal) => return core.refused(refusal),
        }
        let rest = until.saturating_since(clock.now());
        if rest.is_zero() {
            return core.refused(Refusal::Full);
        }
        thread::park_timeout(rest);
    }
}

/// Wakes a thread that is parked.
struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
