//! Settling orders: reserve, charge, ship; or take back what was done.
//!
//! This is where `buttress-saga` will be plugged in: until then a plain background task claims
//! orders for a few seconds, does the next step of each, and writes what it learned. A step that
//! was begun and not ended is done again under the same key. Any number of instances may settle.

use std::{sync::Arc, time::Duration};

use buttress_core::Chain;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clients::{Clients, Unanswered},
    order::{CancelReason, OrderStatus, StepName, StepState},
    repository::{Claim, Database, Fenced, Progress, Settling, StoreError},
    upstreams::{ChargeAnswer, ChargeRequest, ShipmentAnswer, ShipmentRequest},
};

/// What a dead process held is free again after this long. Extended with each step; no step takes
/// longer than an attempt's limit and a write.
const LEASE: Duration = Duration::from_secs(9);
/// How long a settlement that nobody woke waits before it looks again.
const POLL: Duration = Duration::from_millis(500);
/// How many orders one instance settles at once.
const AT_ONCE: usize = 16;
/// How often a charge is tried without an answer before it is given up.
const CHARGE_ATTEMPTS: i64 = 5;
/// Steps after the charge, and undo, are tried again for ever, no further apart than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Settler {
    database: Database,
    clients: Clients,
    wake: Arc<Notify>,
}

/// What to do with an order next.
enum Next {
    Again,
    Stop,
}

impl Settler {
    pub(crate) const fn new(database: Database, clients: Clients, wake: Arc<Notify>) -> Self {
        Self {
            database,
            clients,
            wake,
        }
    }

    /// Settles orders until `stop`; then ends the steps under way and hands all claims back.
    pub(crate) async fn run_until(self: Arc<Self>, stop: CancellationToken) {
        let running = TaskTracker::new();
        while !stop.is_cancelled() {
            let room = AT_ONCE.saturating_sub(running.len());
            let claimed = self.claim(room, &running, &stop).await;
            if claimed > 0 && claimed == room {
                // There may be more that are due, and a place is free as soon as one ends.
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        running.close();
        running.wait().await;
    }

    /// Claims what is due, and settles each on a task of its own.
    async fn claim(
        self: &Arc<Self>,
        room: usize,
        running: &TaskTracker,
        stop: &CancellationToken,
    ) -> usize {
        if room == 0 {
            return 0;
        }
        let limit = i64::try_from(room).unwrap_or(i64::MAX);
        let claims = match self.database.claim_due(LEASE, limit).await {
            Ok(claims) => claims,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "orders cannot be claimed; trying again");
                return 0;
            }
        };
        let claimed = claims.len();
        for claim in claims {
            let (settler, stop) = (Arc::clone(self), stop.clone());
            running.spawn(async move {
                settler.settle(&claim, &stop).await;
                settler.wake.notify_one();
            });
        }
        claimed
    }

    /// Does step after step of one order until it is settled, waits, or is somebody else's.
    async fn settle(&self, claim: &Claim, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self.step(claim).await {
                Ok(Next::Again) => {}
                Ok(Next::Stop) => return,
                Err(error) => {
                    tracing::warn!(order = claim.order_id, error = %Chain(&error), "settling waits");
                    break;
                }
            }
        }
        if let Err(error) = self.database.release(claim).await {
            // It lapses by itself.
            tracing::debug!(order = claim.order_id, error = %Chain(&error), "a claim was not handed back");
        }
    }

    async fn step(&self, claim: &Claim) -> Result<Next, StoreError> {
        let Some(order) = self.database.settling(&claim.order_id).await? else {
            return Ok(Next::Stop);
        };
        if order.status != OrderStatus::Pending {
            return Ok(Next::Stop);
        }
        let progress = if order.undo_reason.is_some() {
            self.undo(&order).await
        } else if order.reserve != StepState::Done {
            Some(Progress::Reserve)
        } else if order.charge != StepState::Done {
            self.charge(claim, &order).await?
        } else {
            self.ship(claim, &order).await?
        };
        let Some(progress) = progress else {
            return Ok(Next::Stop);
        };
        let fenced = self.database.progress(claim, progress).await?;
        let waits = matches!(
            progress,
            Progress::Unanswered { .. } | Progress::Postponed { .. }
        );
        Ok(if fenced == Fenced::Lost || waits {
            Next::Stop
        } else {
            Next::Again
        })
    }

    /// `None` when the claim was lost before the call.
    async fn charge(
        &self,
        claim: &Claim,
        order: &Settling,
    ) -> Result<Option<Progress>, StoreError> {
        if order.unanswered >= CHARGE_ATTEMPTS {
            return Ok(Some(Progress::GiveUp(CancelReason::PaymentUnavailable)));
        }
        if let Some(left) = self.clients.payments.paused_for() {
            return Ok(Some(postponed(None, left)));
        }
        if self
            .database
            .progress(claim, Progress::Begin(StepName::Charge))
            .await?
            == Fenced::Lost
        {
            return Ok(None);
        }
        let charge = ChargeRequest {
            order_id: order.id.clone(),
            amount: order.total,
            payment_method: <&str>::from(order.payment_method).to_owned(),
        };
        Ok(Some(
            match self
                .clients
                .payments
                .charge(&charge_key(order), &charge)
                .await
            {
                Ok(ChargeAnswer::Charged) => Progress::Charged,
                Ok(ChargeAnswer::Declined) => Progress::Declined,
                // Only an undo cancels the key, and it says so before; this is a late twin of ours.
                Ok(ChargeAnswer::Cancelled) => Progress::GiveUp(CancelReason::PaymentUnavailable),
                Err(failed) => again(Some(StepName::Charge), &failed, order),
            },
        ))
    }

    async fn ship(&self, claim: &Claim, order: &Settling) -> Result<Option<Progress>, StoreError> {
        if let Some(left) = self.clients.shipments.paused_for() {
            return Ok(Some(postponed(None, left)));
        }
        if self
            .database
            .progress(claim, Progress::Begin(StepName::Ship))
            .await?
            == Fenced::Lost
        {
            return Ok(None);
        }
        let shipment = ShipmentRequest {
            order_id: order.id.clone(),
        };
        let key = format!("{}-ship", order.id);
        Ok(Some(
            match self.clients.shipments.book(&key, &shipment).await {
                Ok(ShipmentAnswer::Booked) => Progress::Shipped,
                // Nobody cancels a shipment of ours. Whoever did: the order is stuck, and is seen to be.
                Ok(ShipmentAnswer::Cancelled) => Progress::Unanswered {
                    step: StepName::Ship,
                    may_be_done: false,
                    again_in: pause(order),
                },
                Err(failed) => again(Some(StepName::Ship), &failed, order),
            },
        ))
    }

    async fn undo(&self, order: &Settling) -> Option<Progress> {
        Some(
            match self.clients.payments.cancel(&charge_key(order)).await {
                Ok(()) => Progress::Undone,
                Err(failed) => again(None, &failed, order),
            },
        )
    }
}

/// The same for every attempt of one order, through every crash.
fn charge_key(order: &Settling) -> String {
    format!("{}-charge", order.id)
}

/// When to try again what gave no answer. `begun` is the step that was begun for it; an undo begins
/// none, and counts with the charge that it undoes.
fn again(begun: Option<StepName>, failed: &Unanswered, order: &Settling) -> Progress {
    let asked = failed.asked_to_wait().unwrap_or_default();
    if !failed.was_tried() {
        return postponed(begun, asked);
    }
    Progress::Unanswered {
        step: begun.unwrap_or(StepName::Charge),
        may_be_done: failed.may_be_done(),
        again_in: pause(order).max(asked).min(LONGEST_PAUSE),
    }
}

/// A breaker that is open asks nobody: that is no try, and may last as long as it likes. It gives
/// no order up. `left` is how long it is still open; those who wait for it come one after the other.
fn postponed(begun: Option<StepName>, left: Duration) -> Progress {
    let after = left + Duration::from_millis(rand::random_range(20..=1000));
    Progress::Postponed {
        begun,
        again_in: after.min(LONGEST_PAUSE),
    }
}

/// Doubles from a fifth of a second, and is scattered so that orders do not come in one wave.
fn pause(order: &Settling) -> Duration {
    let doublings = u32::try_from(order.unanswered.clamp(0, 8)).unwrap_or_default();
    let longest = (Duration::from_millis(200) * (1 << doublings)).min(LONGEST_PAUSE);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::PaymentMethod;

    #[test]
    fn pauses_grow_and_never_pass_the_longest() {
        let mut order = Settling {
            id: "1".into(),
            status: OrderStatus::Pending,
            total: 1,
            payment_method: PaymentMethod::PmOk,
            undo_reason: None,
            reserve: StepState::Done,
            charge: StepState::Unknown,
            unanswered: 0,
        };
        assert!(pause(&order) <= Duration::from_millis(200));
        for unanswered in [1, 5, 8, 1000, i64::MAX] {
            order.unanswered = unanswered;
            assert!(pause(&order) <= LONGEST_PAUSE);
        }
        assert!(pause(&order) >= LONGEST_PAUSE / 2);
    }
}
