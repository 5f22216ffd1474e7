//! `/ledger`

use axum::extract::State;
use buttress_error_envelope::{Envelope, Problem, axum::Query};
use serde::{Deserialize, Serialize};

use super::{Shop, refusal::Refusal};
use crate::repository::LedgerEntry;

#[derive(Debug, Deserialize)]
pub(super) struct LedgerQuery {
    after: Option<i64>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct LedgerView {
    charges: Vec<LedgerEntry>,
}

pub(super) async fn list(
    State(shop): State<Shop>,
    Query(query): Query<LedgerQuery>,
) -> Result<Envelope<LedgerView>, Problem> {
    let after = query.after.unwrap_or(0);
    if after < 0 {
        return Err(Refusal::Parameter("after must not be negative.").into());
    }
    let limit = query.limit.unwrap_or(i64::MAX);
    if limit < 1 {
        return Err(Refusal::Parameter("limit must be at least 1.").into());
    }
    let charges = shop.database.ledger(after, limit).await?;
    Ok(Envelope::new(LedgerView { charges }))
}
