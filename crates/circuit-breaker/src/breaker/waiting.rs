//! Waiting, half-open, for a free slot or the verdict.

use buttress_core::Rejection;

use super::Core;
use crate::cell::{Refusal, Ticket};

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
            return std::task::Poll::Ready(true);
        }
        patience.as_mut().poll(context).map(|()| false)
    })
    .await
}
