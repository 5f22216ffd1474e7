//! Calls to the payment service.

use std::time::Duration;

use buttress_circuit_breaker::CircuitBreaker;

use super::{Endpoint, Terms, Unanswered};
use crate::upstreams::{ChargeAnswer, ChargeRequest, IDEMPOTENCY_KEY};

/// Nobody waits for the answer, but an order's claim does: all attempts end well within it. Who
/// settles tries again later, and remembers it over a crash, so there are few attempts here, and
/// the breaker is never open for long.
pub(super) const TERMS: Terms = Terms {
    name: "payments",
    attempt: Duration::from_millis(1500),
    attempts: 2,
    total: Duration::from_millis(3500),
    open: (Duration::from_secs(1), Duration::from_secs(3)),
};

#[derive(Clone, Debug)]
pub(crate) struct Payments {
    endpoint: Endpoint,
}

impl Payments {
    pub(super) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    pub(super) const fn breaker(&self) -> &CircuitBreaker {
        self.endpoint.breaker()
    }

    /// For how long calls are paused, because the service fails.
    pub(crate) fn paused_for(&self) -> Option<Duration> {
        self.endpoint.paused_for()
    }

    /// Charges under `key`; the same key again is the same charge.
    pub(crate) async fn charge(
        &self,
        key: &str,
        charge: &ChargeRequest,
    ) -> Result<ChargeAnswer, Unanswered> {
        let request = self.endpoint.http.post(self.endpoint.url("/charges"));
        let request = request.header(IDEMPOTENCY_KEY, key).json(charge);
        self.endpoint.ask(request).await
    }

    /// Refunds what was charged under `key`, and refuses what comes under it later.
    pub(crate) async fn cancel(&self, key: &str) -> Result<(), Unanswered> {
        let charge = self.endpoint.url(&format!("/charges/{key}"));
        self.endpoint.ask(self.endpoint.http.delete(charge)).await
    }
}
