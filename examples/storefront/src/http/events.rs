//! `/events`

use axum::extract::State;
use buttress_error_envelope::{Envelope, Problem, axum::Query};
use serde::{Deserialize, Serialize};

use super::{Shop, refusal::Refusal};
use crate::event::AppliedEvent;

#[derive(Debug, Deserialize)]
pub(super) struct EventsQuery {
    after: Option<i64>,
    limit: Option<i64>,
}

/// What stands beside a page.
#[derive(Debug, Serialize)]
pub(super) struct EventsMeta {
    /// What to ask for next as `after`; null when nothing came after this page, as yet.
    next_after: Option<i64>,
}

pub(super) async fn list(
    State(shop): State<Shop>,
    Query(query): Query<EventsQuery>,
) -> Result<Envelope<Vec<AppliedEvent>>, Problem> {
    let after = query.after.unwrap_or(0);
    if after < 0 {
        return Err(Refusal::Parameter("after must not be negative.").into());
    }
    let limit @ 1..=1000 = query.limit.unwrap_or(100) else {
        return Err(Refusal::Parameter("limit must be from 1 to 1000.").into());
    };
    let mut page = shop.database.events(after, limit + 1).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = page.len() > limit;
    page.truncate(limit);
    let next_after = page.last().filter(|_| more).map(|last| last.seq);
    Ok(Envelope::new(page).with_meta(EventsMeta { next_after }))
}
