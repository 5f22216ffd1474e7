//! Calls to the shipment service.

use std::time::Duration;

use buttress_circuit_breaker::CircuitBreaker;

use super::{Endpoint, Terms, Unanswered};
use crate::upstreams::{IDEMPOTENCY_KEY, ShipmentAnswer, ShipmentRequest};

/// As for payments: who settles tries again later.
pub(super) const TERMS: Terms = Terms {
    name: "shipments",
    attempt: Duration::from_millis(1500),
    attempts: 2,
    total: Duration::from_millis(3500),
    open: (Duration::from_secs(1), Duration::from_secs(3)),
};

#[derive(Clone, Debug)]
pub(crate) struct Shipments {
    endpoint: Endpoint,
}

impl Shipments {
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

    /// Books a shipment under `key`; the same key again is the same shipment.
    pub(crate) async fn book(
        &self,
        key: &str,
        shipment: &ShipmentRequest,
    ) -> Result<ShipmentAnswer, Unanswered> {
        let request = self.endpoint.http.post(self.endpoint.url("/shipments"));
        let request = request.header(IDEMPOTENCY_KEY, key).json(shipment);
        self.endpoint.ask(request).await
    }
}
