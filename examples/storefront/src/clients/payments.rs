//! Calls to the payment service.

use std::time::Duration;

use super::{CallFailed, Endpoint, ask, send};
use crate::upstreams::{ChargeAnswer, ChargeRequest, IDEMPOTENCY_KEY};

/// How long the payment service may take for one attempt.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Payments {
    endpoint: Endpoint,
}

impl Payments {
    pub(super) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Charges under `key`; the same key again is the same charge.
    pub(crate) async fn charge(
        &self,
        key: &str,
        charge: &ChargeRequest,
    ) -> Result<ChargeAnswer, CallFailed> {
        let request = self.endpoint.http.post(self.endpoint.url("/charges"));
        ask(request.header(IDEMPOTENCY_KEY, key).json(charge), PATIENCE).await
    }

    /// Refunds what was charged under `key`, and refuses what comes under it later.
    pub(crate) async fn cancel(&self, key: &str) -> Result<(), CallFailed> {
        let request = self
            .endpoint
            .http
            .delete(self.endpoint.url(&format!("/charges/{key}")));
        send(request, PATIENCE).await.map(drop)
    }
}
