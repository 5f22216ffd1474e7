//! `/shipping-quotes`

use axum::extract::State;
use buttress_error_envelope::{Envelope, Problem, axum::Query};
use serde::{Deserialize, Serialize};

use super::{Shop, refusal::Refusal};
use crate::upstreams::QuoteRequest;

#[derive(Debug, Deserialize)]
pub(super) struct QuoteQuery {
    country: String,
    quantity: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct QuoteView {
    country: String,
    quantity: i64,
    price: i64,
    carrier: String,
}

pub(super) async fn quote(
    State(shop): State<Shop>,
    Query(query): Query<QuoteQuery>,
) -> Result<Envelope<QuoteView>, Problem> {
    let QuoteQuery { country, quantity } = query;
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(Refusal::Parameter("country must be two letters (ISO 3166).").into());
    }
    if !(1..=10_000).contains(&quantity) {
        return Err(Refusal::Parameter("quantity must be from 1 to 10000.").into());
    }
    let request = QuoteRequest {
        country: country.to_ascii_uppercase(),
        quantity,
    };
    let quote = shop.quoting.quote(&request).await?;
    Ok(Envelope::new(QuoteView {
        country,
        quantity,
        price: quote.price,
        carrier: quote.carrier,
    }))
}
