//! Settling orders: a saga that reserves, charges, ships and confirms, or takes back what was done.
//!
//! The order's row and its saga are committed together; runners of any number of instances drive
//! it from there. Reserving, cancelling and confirming are rows, committed with the journal. The
//! charge and the shipment are calls under keys that stay the same through every crash.

use std::time::Duration;

use buttress_retry_backoff::Backoff;
use buttress_saga::{
    Context, Effect, MetricsObserver, Runner, RunnerPolicy, Saga, SagaError, SagaId, Sagas, State,
    Step, StepError, StepPolicy, TraceEvents, UndoContext,
};
use buttress_store::LeaseTerms;
use tracing::{Instrument as _, Span};

use crate::{
    clients::{Clients, Payments, Shipments, Unanswered},
    order::{CancelReason, Order, OrderStatus, Placed, Step as StepShown, StepName, StepState},
    repository::{Database, OrderSagas},
    telemetry,
    upstreams::{ChargeAnswer, ChargeRequest, ShipmentAnswer, ShipmentRequest},
};

/// What a dead process held is free again after this long. What it held of the same kind is looked
/// for once a lease, so twice this is the longest that an order waits.
const LEASE: Duration = Duration::from_secs(4);
/// How long a runner that nobody woke waits before it looks again.
const POLL: Duration = Duration::from_millis(500);
/// How long steps may go on once the service stops: longer than a call with all its attempts.
const GRACE: Duration = Duration::from_secs(8);
/// Longer than a call with all its attempts takes, or a write that waits for its turn.
const ATTEMPT: Duration = Duration::from_secs(6);
/// How often a charge is tried without an answer before it is given up.
const CHARGE_ATTEMPTS: u32 = 5;
/// Nothing is tried again later than this, whatever the other side asks for: with the look that
/// finds it due, and an open breaker, that is within five seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// The code of a step that a breaker kept back.
const CIRCUIT_OPEN: &str = "CIRCUIT_OPEN";

/// How orders are settled, and how far they are.
#[derive(Clone, Debug)]
pub(crate) struct Settlement {
    orders: OrderSagas,
}

impl Settlement {
    pub(crate) fn new(
        sagas: Sagas,
        database: &Database,
        clients: &Clients,
    ) -> anyhow::Result<Self> {
        let backoff = Backoff::exponential(Duration::from_millis(200)).with_cap(LONGEST_PAUSE);
        let policy = StepPolicy::default()
            .backoff(backoff.clone())
            .undo_backoff(backoff)
            .timeout(ATTEMPT)
            .undo_timeout(ATTEMPT);
        let mut order = Saga::define("order", 1);
        let reserve = Reserve(database.clone());
        order.step_with(
            StepName::Reserve.into(),
            Traced(StepName::Reserve, reserve),
            // Its undo is what cancels the order, also where there was too little to reserve.
            policy.clone().unlimited_attempts().undo_always(),
        );
        let charge = Charge(clients.payments.clone());
        order.step_with(
            StepName::Charge.into(),
            Traced(StepName::Charge, charge),
            policy.clone().attempts(CHARGE_ATTEMPTS).undo_always(),
        );
        order.pivot();
        let ship = Ship(clients.shipments.clone());
        order.step_with(
            StepName::Ship.into(),
            Traced(StepName::Ship, ship),
            policy.clone(),
        );
        let confirm = Confirm(database.clone());
        order.step_with(
            StepName::Confirm.into(),
            Traced(StepName::Confirm, confirm),
            policy,
        );
        let saga = order.build()?;
        Ok(Self {
            orders: OrderSagas { sagas, saga },
        })
    }

    /// What an accepted order is started by.
    pub(crate) const fn orders(&self) -> &OrderSagas {
        &self.orders
    }

    /// What drives this instance's share of the orders.
    pub(crate) fn runner(&self) -> anyhow::Result<Runner> {
        let policy = RunnerPolicy::default()
            .lease(LeaseTerms::new(LEASE)?.with_ceiling(1000)?)
            .poll(POLL)
            .grace(GRACE)
            // No order kills its worker: whoever dies here was killed, as often as it likes.
            .lone_lapses(1000);
        let runner = self.orders.sagas.runner().saga(&self.orders.saga);
        let runner = runner.policy(policy).observer(TraceEvents::new());
        Ok(runner.observer(MetricsObserver::new()).build()?)
    }

    /// The orders with their steps, which stand in the journals of their sagas.
    pub(crate) async fn show(&self, mut orders: Vec<Order>) -> Result<Vec<Order>, SagaError> {
        let ids = orders.iter().map(|order| saga_id(&order.id));
        let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
        let histories = self.orders.sagas.histories(&self.orders.saga, &ids).await?;
        if histories.len() != orders.len() {
            // Each was started with its order, so it is there: by other steps than these.
            return Err(SagaError::OtherDefinition);
        }
        for (order, history) in orders.iter_mut().zip(histories) {
            if history.saga.state == State::NeedsAttention {
                order.status = OrderStatus::NeedsAttention;
            }
            let steps = StepName::ALL.into_iter().zip(history.steps);
            let steps = steps.map(|(name, step)| StepShown {
                name,
                state: step.state.into(),
                attempts: i64::from(step.attempts),
            });
            order.steps = steps.collect();
        }
        Ok(orders)
    }
}

/// An order and its saga are called the same.
fn saga_id(order: &str) -> Result<SagaId, SagaError> {
    order.parse().map_err(|_| SagaError::NotFound)
}

impl From<buttress_saga::StepState> for StepState {
    fn from(state: buttress_saga::StepState) -> Self {
        use buttress_saga::StepState as Saga;
        match state {
            Saga::Pending => Self::Pending,
            Saga::Running => Self::Running,
            Saga::Done => Self::Done,
            Saga::Failed => Self::Failed,
            Saga::Undone => Self::Undone,
            // While it is being undone, its effect may be there and may be gone.
            _ => Self::Unknown,
        }
    }
}

/// A step, each attempt at which is a span of the trace in which its order was accepted.
struct Traced<S>(StepName, S);

impl<S> Traced<S> {
    fn span(&self, placed: &Placed, attempt: u32, undo: bool) -> Span {
        let step = <&str>::from(self.0);
        let name = if undo {
            format!("undo {step}")
        } else {
            step.to_owned()
        };
        let span = tracing::info_span!("step", otel.name = name, attempt);
        telemetry::follow(&span, placed.traceparent.as_deref());
        span
    }
}

impl<S: Step<Input = Placed>> Step for Traced<S> {
    type Input = Placed;
    type Output = S::Output;

    async fn run(&self, step: &Context<'_, Placed>) -> Result<S::Output, StepError> {
        let span = self.span(step.input(), step.attempt(), false);
        self.1.run(step).instrument(span).await
    }

    async fn undo(
        &self,
        undo: &UndoContext<'_, Placed>,
        effect: Effect<S::Output>,
    ) -> Result<(), StepError> {
        let span = self.span(undo.input(), undo.attempt(), true);
        self.1.undo(undo, effect).instrument(span).await
    }

    fn paused_for(&self) -> Option<Duration> {
        self.1.paused_for()
    }
}

struct Reserve(Database);

impl Step for Reserve {
    type Input = Placed;
    type Output = ();

    async fn run(&self, step: &Context<'_, Placed>) -> Result<(), StepError> {
        self.0.reserve(step).await
    }

    async fn undo(
        &self,
        undo: &UndoContext<'_, Placed>,
        effect: Effect<()>,
    ) -> Result<(), StepError> {
        // Nothing but a charge is ever given up.
        let reason = undo.reason().parse();
        let reason = reason.unwrap_or(CancelReason::PaymentUnavailable);
        // It is done with its journal, or not at all.
        let reserved = matches!(effect, Effect::Done(()));
        self.0.cancel(undo, reserved, reason).await
    }
}

struct Charge(Payments);

impl Step for Charge {
    type Input = Placed;
    type Output = ();

    async fn run(&self, step: &Context<'_, Placed>) -> Result<(), StepError> {
        let placed = step.input();
        let charge = ChargeRequest {
            order_id: placed.order_id.clone(),
            amount: placed.total,
            payment_method: <&str>::from(placed.payment_method).to_owned(),
        };
        let unavailable = CancelReason::PaymentUnavailable.into();
        match self.0.charge(&step.idempotency_key(), &charge).await {
            Ok(ChargeAnswer::Charged) => Ok(()),
            Ok(ChargeAnswer::Declined) => {
                Err(StepError::refused(CancelReason::PaymentDeclined.into()))
            }
            // Only the undo cancels the key: this is a late twin, and its word counts for nothing.
            Ok(ChargeAnswer::Cancelled) => Err(StepError::refused(unavailable)),
            Err(failed) => Err(unanswered(unavailable, failed)),
        }
    }

    /// A charge that was given up is cancelled there before the order is, also if each try is said
    /// to have done nothing: who fails so often is not to be believed where money is concerned.
    async fn undo(
        &self,
        undo: &UndoContext<'_, Placed>,
        effect: Effect<()>,
    ) -> Result<(), StepError> {
        let declined = <&str>::from(CancelReason::PaymentDeclined);
        if effect == Effect::None && undo.reason() == declined {
            return Ok(());
        }
        let cancelled = self.0.cancel(&undo.idempotency_key()).await;
        cancelled.map_err(|failed| unanswered(CancelReason::PaymentUnavailable.into(), failed))
    }

    fn paused_for(&self) -> Option<Duration> {
        self.0.paused_for()
    }
}

/// Behind the charge, so it is never undone.
struct Ship(Shipments);

impl Step for Ship {
    type Input = Placed;
    type Output = ();

    async fn run(&self, step: &Context<'_, Placed>) -> Result<(), StepError> {
        let shipment = ShipmentRequest {
            order_id: step.input().order_id.clone(),
        };
        match self.0.book(&step.idempotency_key(), &shipment).await {
            Ok(ShipmentAnswer::Booked) => Ok(()),
            // Nobody cancels a shipment of ours. Whoever did: somebody must look at it.
            Ok(ShipmentAnswer::Cancelled) => Err(StepError::refused("SHIPMENT_CANCELLED")),
            Err(failed) => Err(unanswered("SHIPMENT_UNAVAILABLE", failed)),
        }
    }

    fn paused_for(&self) -> Option<Duration> {
        self.0.paused_for()
    }
}

/// Behind the charge as well.
struct Confirm(Database);

impl Step for Confirm {
    type Input = Placed;
    type Output = ();

    async fn run(&self, step: &Context<'_, Placed>) -> Result<(), StepError> {
        self.0.confirm(step).await
    }
}

/// What a call without an answer says of its step. A breaker that is open asks nobody: that is no
/// try, may last as long as it likes, and gives no order up.
fn unanswered(code: &'static str, failed: Unanswered) -> StepError {
    let wait = failed.asked_to_wait().unwrap_or_default();
    let wait = wait.min(LONGEST_PAUSE);
    if !failed.was_tried() {
        return StepError::postponed(CIRCUIT_OPEN, wait).because(failed);
    }
    let error = if failed.may_be_done() {
        StepError::unknown(code)
    } else {
        StepError::not_done(code)
    };
    error.with_retry_after(wait).because(failed)
}
