//! Calls to the shipment service.

use std::time::Duration;

use super::{CallFailed, Endpoint, ask};
use crate::upstreams::{IDEMPOTENCY_KEY, ShipmentAnswer, ShipmentRequest};

/// How long the shipment service may take for one attempt.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Shipments {
    endpoint: Endpoint,
}

impl Shipments {
    pub(super) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Books a shipment under `key`; the same key again is the same shipment.
    pub(crate) async fn book(
        &self,
        key: &str,
        shipment: &ShipmentRequest,
    ) -> Result<ShipmentAnswer, CallFailed> {
        let request = self.endpoint.http.post(self.endpoint.url("/shipments"));
        ask(
            request.header(IDEMPOTENCY_KEY, key).json(shipment),
            PATIENCE,
        )
        .await
    }
}
