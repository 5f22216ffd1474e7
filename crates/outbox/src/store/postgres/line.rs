//! All lanes of a topic as one line.

use std::time::Duration;

use buttress_store::{Fence, Phase, StoreError, Token};

use super::{PostgresStore, RowParts, row};
use crate::{
    message::Topic,
    store::{Claimed, Held, Row, micros},
};

pub(super) type ClaimParts = (i16, i64, bool, Option<i64>, bool);

pub(super) fn claimed(rows: Vec<ClaimParts>, token: Token) -> Vec<Claimed> {
    let claimed = |(lane, epoch, lapsed, alone, ring)| Claimed {
        held: Held {
            lane,
            fence: Fence::new(epoch, token),
        },
        lapsed,
        alone,
        ring,
    };
    rows.into_iter().map(claimed).collect()
}

impl PostgresStore {
    pub(super) async fn claim_all_now(
        &self,
        topic: &Topic,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let token = Token::random();
        let claim = sqlx::query_as(&self.sql.claim_all)
            .bind(topic.as_str())
            .bind(&token.as_bytes()[..])
            .bind(micros(lease));
        let rows: Vec<ClaimParts> = self.fetch(Phase::Statement, claim).await?;
        Ok(claimed(rows, token))
    }

    pub(super) async fn line_now(
        &self,
        topic: &Topic,
        from: &[(i16, i64)],
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let (lanes, ids): (Vec<i16>, Vec<i64>) = from.iter().copied().unzip();
        let line = sqlx::query_as(&self.sql.line)
            .bind(topic.as_str())
            .bind(lanes)
            .bind(ids)
            .bind(i64::from(limit));
        let rows: Vec<RowParts> = self.fetch(Phase::Read, line).await?;
        Ok(rows.into_iter().map(row).collect())
    }
}
