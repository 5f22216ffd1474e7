//! Calls to the carrier service.

use std::time::Duration;

use super::{CallFailed, Endpoint, ask};
use crate::upstreams::{Quote, QuoteRequest};

/// How long the carrier may take for one attempt.
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    endpoint: Endpoint,
}

impl Carrier {
    pub(super) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Asks for a price. It has no effect, so it may be asked again whatever the answer was.
    pub(crate) async fn quote(&self, request: &QuoteRequest) -> Result<Quote, CallFailed> {
        let quote = self
            .endpoint
            .http
            .get(self.endpoint.url("/quotes"))
            .query(request);
        ask(quote, PATIENCE).await
    }
}
