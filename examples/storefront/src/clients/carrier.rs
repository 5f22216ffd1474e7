//! Calls to the carrier service.

use std::time::Duration;

use buttress_circuit_breaker::CircuitBreaker;

use super::{Endpoint, Terms, Unanswered};
use crate::upstreams::{Quote, QuoteRequest};

/// A customer waits for the answer: three attempts and the waits between them stay under 3 s.
pub(super) const TERMS: Terms = Terms {
    name: "carrier",
    attempt: Duration::from_millis(800),
    attempts: 3,
    total: Duration::from_millis(2700),
    open: (Duration::from_secs(2), Duration::from_secs(10)),
};

#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    endpoint: Endpoint,
}

impl Carrier {
    pub(super) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    pub(super) const fn breaker(&self) -> &CircuitBreaker {
        self.endpoint.breaker()
    }

    /// Asks for a price. It has no effect, so it may be asked again whatever the answer was.
    pub(crate) async fn quote(&self, request: &QuoteRequest) -> Result<Quote, Unanswered> {
        let quote = self.endpoint.http.get(self.endpoint.url("/quotes"));
        self.endpoint.ask(quote.query(request)).await
    }
}
