//! Asking the carrier for a price.
//!
//! This is where `buttress-circuit-breaker` and `buttress-retry-backoff` will be plugged in: until
//! then a plain loop tries a few times, and nothing pauses calls to a carrier that is down.

use std::time::Duration;

use crate::{
    clients::{CallFailed, Carrier},
    upstreams::{Quote, QuoteRequest},
};

/// With the carrier's own limit for one attempt, three of them and the pauses stay under 3 s.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(150)];

#[derive(Clone)]
pub(crate) struct Quoting {
    carrier: Carrier,
}

impl Quoting {
    pub(crate) const fn new(carrier: Carrier) -> Self {
        Self { carrier }
    }

    /// A price, or how the last attempt failed.
    pub(crate) async fn quote(&self, request: &QuoteRequest) -> Result<Quote, CallFailed> {
        for pause in PAUSES {
            if let Ok(quote) = self.carrier.quote(request).await {
                return Ok(quote);
            }
            tokio::time::sleep(pause).await;
        }
        self.carrier.quote(request).await
    }
}
