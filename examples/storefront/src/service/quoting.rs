//! Asking the carrier for a price.

use crate::{
    clients::{Carrier, Unanswered},
    upstreams::{Quote, QuoteRequest},
};

#[derive(Clone)]
pub(crate) struct Quoting {
    carrier: Carrier,
}

impl Quoting {
    pub(crate) const fn new(carrier: Carrier) -> Self {
        Self { carrier }
    }

    /// A price, or why there is none: soon, for a customer waits for it.
    pub(crate) async fn quote(&self, request: &QuoteRequest) -> Result<Quote, Unanswered> {
        self.carrier.quote(request).await
    }
}
