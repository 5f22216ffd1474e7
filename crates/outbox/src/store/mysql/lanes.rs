//! Lanes: made, claimed, extended, handed back, read.

use std::time::Duration;

use buttress_store::{Deadline, Fence, Guarded, Loan, Phase, StoreError, Token};
use sqlx::MySql;

use super::{LANES, MySqlStore, RowParts, micros, numbers, rows, step};
use crate::{
    message::Topic,
    store::{Beat, Claimed, Held, LeaveOut, Row},
};

impl MySqlStore {
    pub(super) async fn prepare_now(&self, topic: &Topic) -> Result<(), StoreError> {
        let prepared = sqlx::query_as(&self.sql.prepared).bind(topic.as_str().as_bytes());
        let (lanes,): (i64,) = self.fetch_one(prepared).await?;
        if lanes >= i64::from(LANES) {
            return Ok(());
        }
        for lane in 0..LANES {
            let prepare = sqlx::query(&self.sql.prepare).bind(topic.as_str().as_bytes());
            self.execute(prepare.bind(lane)).await?;
        }
        Ok(())
    }

    /// The lanes that are still held under these fences, locked in their order: whoever locks
    /// several never waits in a circle.
    pub(super) async fn mine(
        &self,
        transaction: &mut Guarded<MySql>,
        topic: &Topic,
        held: &[Held],
    ) -> Result<Vec<i16>, StoreError> {
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let lanes: Vec<i16> = held.iter().map(|it| it.lane).collect();
        let lock = sqlx::query_as(&self.sql.lock)
            .bind(topic.as_str().as_bytes())
            .bind(numbers(&lanes));
        let found: Vec<(i16, i64, Option<Vec<u8>>)> = rows(transaction, lock).await?;
        let is_mine = |(lane, epoch, token): &(i16, i64, Option<Vec<u8>>)| {
            held.iter().any(|it| {
                it.lane == *lane
                    && it.fence.epoch() == *epoch
                    && token.as_deref() == Some(&it.fence.token().as_bytes()[..])
            })
        };
        let mine = found.into_iter().filter(is_mine);
        Ok(mine.map(|(lane, ..)| lane).collect())
    }

    pub(super) async fn beat_now(
        &self,
        topic: &Topic,
        relay: &[u8; 16],
        lease: Duration,
        held: &[Held],
    ) -> Result<Beat, StoreError> {
        let topic_bytes = topic.as_str().as_bytes();
        let run = async |deadline: Deadline| {
            let mut transaction = self.begin(deadline).await?;
            let beat = async {
                let kept = self.mine(&mut transaction, topic, held).await?;
                let extend = sqlx::query(&self.sql.extend)
                    .bind(micros(lease))
                    .bind(topic_bytes)
                    .bind(numbers(&kept));
                step(&mut transaction, extend).await?;
                let alive = sqlx::query(&self.sql.alive)
                    .bind(topic_bytes)
                    .bind(&relay[..])
                    .bind(micros(lease));
                step(&mut transaction, alive).await?;
                let relays = sqlx::query_as(&self.sql.relays)
                    .bind(topic_bytes)
                    .bind(topic_bytes);
                let relays: Vec<(i64, bool)> = rows(&mut transaction, relays).await?;
                let (relays, paused) = relays.first().copied().unwrap_or((1, false));
                Ok(Beat {
                    kept,
                    relays: u32::try_from(relays).unwrap_or(u32::MAX),
                    paused,
                })
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
        let topic = topic.as_str().as_bytes();
        let free = sqlx::query_as(&self.sql.free).bind(topic).bind(most);
        let free: Vec<(i16,)> = self.fetch(free).await?;
        let free: Vec<i16> = free.into_iter().map(|(lane,)| lane).collect();
        if free.is_empty() {
            return Ok(Vec::new());
        }
        let token = Token::random();
        let run = async |deadline: Deadline| {
            let mut transaction = self.begin(deadline).await?;
            let claim = async {
                let lock = sqlx::query_as(&self.sql.lock_free)
                    .bind(topic)
                    .bind(numbers(&free));
                let locked: Vec<(i16, i64, bool, Option<i64>)> =
                    rows(&mut transaction, lock).await?;
                let lanes: Vec<i16> = locked.iter().map(|it| it.0).collect();
                let claim = sqlx::query(&self.sql.claim)
                    .bind(&token.as_bytes()[..])
                    .bind(micros(lease))
                    .bind(topic)
                    .bind(numbers(&lanes));
                step(&mut transaction, claim).await?;
                let claimed = locked
                    .into_iter()
                    .map(|(lane, epoch, lapsed, alone)| Claimed {
                        held: Held {
                            lane,
                            fence: Fence::new(epoch + 1, token),
                        },
                        lapsed,
                        alone,
                        ring: false,
                    });
                Ok(claimed.collect())
            };
            let claimed = claim.await;
            transaction.finish(claimed).await
        };
        self.gate.run(run).await
    }

    pub(super) async fn release_now(&self, topic: &Topic, held: &[Held]) -> Result<(), StoreError> {
        let run = async |deadline: Deadline| {
            let mut transaction = self.begin(deadline).await?;
            let release = async {
                let mine = self.mine(&mut transaction, topic, held).await?;
                let release = sqlx::query(&self.sql.release)
                    .bind(topic.as_str().as_bytes())
                    .bind(numbers(&mine));
                step(&mut transaction, release).await.map(drop)
            };
            let released = release.await;
            transaction.finish(released).await
        };
        self.gate.run(run).await
    }

    /// Lane after lane, on one connection, until there is enough.
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
            let mut loan = Loan::<MySql>::acquire(&self.pool, deadline).await?;
            let mut window = Vec::new();
            for (lane, id) in from {
                let left = u32::try_from(limit - window.len()).unwrap_or(u32::MAX);
                if left == 0 {
                    break;
                }
                let read = sqlx::query_as(sql)
                    .bind(topic.as_str().as_bytes())
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
