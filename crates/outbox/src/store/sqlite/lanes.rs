//! Lanes: made, claimed, extended, handed back, read.

use std::time::Duration;

use buttress_store::{Deadline, Fence, Loan, Phase, StoreError, Token};
use sqlx::Sqlite;

use super::{LANES, RowParts, SqliteStore, later, now, rows, step};
use crate::{
    message::Topic,
    store::{Beat, Claimed, Held, LeaveOut, Row},
};

impl SqliteStore {
    pub(super) async fn prepare_now(&self, topic: &Topic) -> Result<(), StoreError> {
        let prepared = sqlx::query_as(&self.sql.prepared).bind(topic.as_str());
        let (lanes,): (i64,) = self.fetch_one(prepared).await?;
        if lanes >= i64::from(LANES) {
            return Ok(());
        }
        let run = async |deadline: Deadline| {
            let mut transaction = self.writer.begin(deadline).await?;
            let mut done = Ok(());
            for lane in 0..LANES {
                let prepare = sqlx::query(&self.sql.prepare).bind(topic.as_str());
                done = step(&mut transaction, prepare.bind(lane)).await.map(drop);
                if done.is_err() {
                    break;
                }
            }
            transaction.finish(done).await
        };
        self.gate.run(run).await
    }

    pub(super) async fn beat_now(
        &self,
        topic: &Topic,
        relay: &[u8; 16],
        lease: Duration,
        held: &[Held],
    ) -> Result<Beat, StoreError> {
        let run = async |deadline: Deadline| {
            let mut transaction = self.writer.begin(deadline).await?;
            let beat = async {
                let mut beat = Beat::default();
                let until = later(lease);
                for held in held {
                    let extend = sqlx::query(&self.sql.extend)
                        .bind(topic.as_str())
                        .bind(held.lane)
                        .bind(held.fence.epoch())
                        .bind(&held.fence.token().as_bytes()[..])
                        .bind(until);
                    if step(&mut transaction, extend).await? == 1 {
                        beat.kept.push(held.lane);
                    }
                }
                let alive = sqlx::query(&self.sql.alive)
                    .bind(topic.as_str())
                    .bind(&relay[..])
                    .bind(until);
                step(&mut transaction, alive).await?;
                let relays = sqlx::query_as(&self.sql.relays)
                    .bind(topic.as_str())
                    .bind(now());
                let relays: Vec<(u32, bool)> = rows(&mut transaction, relays).await?;
                if let Some((relays, paused)) = relays.first() {
                    beat.relays = *relays;
                    beat.paused = *paused;
                }
                Ok(beat)
            };
            let beat = beat.await;
            transaction.finish(beat).await
        };
        self.gate.run(run).await
    }

    pub(super) async fn claim_now(
        &self,
        topic: &Topic,
        lease: Duration,
        most: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let free = || {
            sqlx::query_as::<_, (i16, i64, bool, Option<i64>)>(&self.sql.free)
                .bind(topic.as_str())
                .bind(now())
                .bind(most)
        };
        // Nobody's turn is taken for nothing.
        if self.fetch(free()).await?.is_empty() {
            return Ok(Vec::new());
        }
        let token = Token::random();
        let run = async |deadline: Deadline| {
            let mut transaction = self.writer.begin(deadline).await?;
            let claim = async {
                let mut claimed = Vec::new();
                for (lane, epoch, lapsed, alone) in rows(&mut transaction, free()).await? {
                    let claim = sqlx::query(&self.sql.claim)
                        .bind(topic.as_str())
                        .bind(lane)
                        .bind(&token.as_bytes()[..])
                        .bind(later(lease));
                    step(&mut transaction, claim).await?;
                    let fence = Fence::new(epoch + 1, token);
                    claimed.push(Claimed {
                        held: Held { lane, fence },
                        lapsed,
                        alone,
                        ring: false,
                    });
                }
                Ok(claimed)
            };
            let claimed = claim.await;
            transaction.finish(claimed).await
        };
        self.gate.run(run).await
    }

    pub(super) async fn release_now(&self, topic: &Topic, held: &[Held]) -> Result<(), StoreError> {
        let run = async |deadline: Deadline| {
            let mut transaction = self.writer.begin(deadline).await?;
            let release = async {
                for held in held {
                    let release = sqlx::query(&self.sql.release)
                        .bind(topic.as_str())
                        .bind(held.lane)
                        .bind(held.fence.epoch())
                        .bind(&held.fence.token().as_bytes()[..]);
                    step(&mut transaction, release).await?;
                }
                Ok(())
            };
            let released = release.await;
            transaction.finish(released).await
        };
        self.gate.run(run).await
    }

    /// Lane after lane: a read within the process costs little.
    pub(super) async fn window_now(
        &self,
        topic: &Topic,
        from: &[(i16, i64)],
        leave_out: LeaveOut,
        per_lane: u32,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let sql = match leave_out {
            LeaveOut::Nothing => &self.sql.window,
            LeaveOut::Waiting => &self.sql.window_waiting,
            LeaveOut::Aside => &self.sql.window_aside,
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let run = async |deadline: Deadline| {
            let mut loan = Loan::<Sqlite>::acquire(self.writer.pool(), deadline).await?;
            let now = now();
            let mut window = Vec::new();
            for (lane, id) in from {
                let left = u32::try_from(limit - window.len()).unwrap_or(u32::MAX);
                if left == 0 {
                    break;
                }
                let read = sqlx::query_as(sql)
                    .bind(now)
                    .bind(topic.as_str())
                    .bind(*lane)
                    .bind(*id)
                    .bind(per_lane.min(left))
                    .fetch_all(&mut *loan);
                let rows: Vec<RowParts> = deadline.run(Phase::Read, read).await?;
                let row = |(lane, id, key, created_at, early, attributes, payload)| Row {
                    lane,
                    id,
                    key,
                    created_at,
                    early,
                    attributes,
                    payload,
                    stream: false,
                    held: false,
                };
                window.extend(rows.into_iter().map(row));
            }
            loan.give_back();
            Ok(window)
        };
        self.gate.run(run).await
    }
}
