//! The ring: a stream in pieces that are emptied as a whole, and how far each lane has settled it.
//!
//! The rule that all of it rests on: what is in the stream at or below its lane's position was
//! delivered, or is in the table of messages. The statements that move a position see to it
//! themselves, under the lane's fence.

mod statements;
mod truncate;

use buttress_store::{Deadline, Guarded, Isolation, Phase, StoreError};
use sqlx::Postgres;

pub(super) use self::statements::RingStatements;
use super::{LANES, PostgresStore, RowParts, fences, row};
use crate::{
    message::Topic,
    store::{LeaveOut, Reach, Row, Settlement},
};

type RingRow = (
    i16,
    i64,
    Vec<u8>,
    i64,
    Option<i64>,
    Vec<u8>,
    Vec<u8>,
    bool,
    bool,
);

impl PostgresStore {
    pub(super) async fn ring_now(&self, topic: &Topic) -> Result<bool, StoreError> {
        let convert = sqlx::query(&self.ring.convert).bind(topic.as_str());
        self.execute(convert).await?;
        let open = sqlx::query(&self.ring.open).bind(topic.as_str());
        self.execute(open.bind(i64::from(LANES))).await?;
        let is_open = sqlx::query_as(&self.ring.is_open).bind(topic.as_str());
        let (is_open,): (bool,) = self.fetch_one(Phase::Read, is_open).await?;
        Ok(is_open)
    }

    /// By a snapshot that is taken after marks are locked, whatever the pool's isolation: they may
    /// be emptied meanwhile.
    pub(super) async fn positions_now(
        &self,
        topic: &Topic,
        lanes: &[i16],
    ) -> Result<Vec<(i16, i64)>, StoreError> {
        let run = async |deadline: Deadline| {
            let at = Isolation::ReadCommitted;
            let mut transaction = Guarded::<Postgres>::begin_at(at, &self.pool, deadline).await?;
            let positions = sqlx::query_as(&self.ring.positions)
                .bind(topic.as_str())
                .bind(lanes)
                .fetch_all(&mut *transaction);
            let positions = deadline.run(Phase::InTransaction, positions).await;
            transaction.finish(positions).await
        };
        self.gate.run(run).await
    }

    pub(super) async fn ring_window_now(
        &self,
        topic: &Topic,
        from: &[Reach],
        leave_out: LeaveOut,
        per_lane: u32,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let sql = match leave_out {
            LeaveOut::Nothing => &self.ring.window,
            LeaveOut::Waiting => &self.ring.window_waiting,
            LeaveOut::Aside => &self.ring.window_aside,
        };
        let window = sqlx::query_as(sql)
            .bind(topic.as_str())
            .bind(from.iter().map(|it| it.lane).collect::<Vec<_>>())
            .bind(from.iter().map(|it| it.low).collect::<Vec<_>>())
            .bind(from.iter().map(|it| it.position).collect::<Vec<_>>())
            .bind(from.iter().map(|it| it.upto).collect::<Vec<_>>())
            .bind(i64::from(per_lane))
            .bind(i64::from(limit));
        let rows: Vec<RingRow> = self.fetch(Phase::Read, window).await?;
        let both = |(lane, id, key, created_at, early, attributes, payload, stream, held)| Row {
            stream,
            held,
            ..row((lane, id, key, created_at, early, attributes, payload) as RowParts)
        };
        Ok(rows.into_iter().map(both).collect())
    }

    /// Moves lanes on whose stream was delivered as far as they go, by one statement. `None`: of
    /// some it was not, and these did not move.
    pub(super) async fn pass(
        &self,
        topic: &Topic,
        settlement: &Settlement,
    ) -> Result<Option<Vec<i16>>, StoreError> {
        let (lanes, epochs, tokens) = fences(&settlement.held);
        let (of, upto): (Vec<i16>, Vec<i64>) = settlement.passed.iter().copied().unzip();
        let delivered: Vec<i64> = settlement.streamed.iter().map(|(_, id)| *id).collect();
        let pass = sqlx::query_as(&self.ring.pass)
            .bind(topic.as_str())
            .bind(lanes)
            .bind(epochs)
            .bind(tokens)
            .bind(of)
            .bind(upto)
            .bind(delivered);
        let mine: Vec<(i16, bool)> = self.fetch(Phase::Statement, pass).await?;
        let all = !mine.iter().any(|(_, remaining)| *remaining);
        Ok(all.then(|| mine.into_iter().map(|(lane, _)| lane).collect()))
    }

    /// The same within a transaction that holds the lanes' rows: what was not delivered is moved.
    pub(super) async fn pass_and_move(
        &self,
        transaction: &mut Guarded<Postgres>,
        topic: &Topic,
        settlement: &Settlement,
    ) -> Result<(), StoreError> {
        let deadline = transaction.deadline();
        let work = Phase::InTransaction;
        if settlement.keep && !settlement.streamed.is_empty() {
            let (of, ids): (Vec<i16>, Vec<i64>) = settlement.streamed.iter().copied().unzip();
            let keep = sqlx::query(&self.ring.keep)
                .bind(topic.as_str())
                .bind(of)
                .bind(ids)
                .execute(&mut **transaction);
            deadline.run(work, keep).await?;
        }
        let (of, upto): (Vec<i16>, Vec<i64>) = settlement.passed.iter().copied().unzip();
        let delivered: Vec<i64> = settlement.streamed.iter().map(|(_, id)| *id).collect();
        let pass = sqlx::query(&self.ring.pass_and_move)
            .bind(topic.as_str())
            .bind(of)
            .bind(upto)
            .bind(delivered)
            .execute(&mut **transaction);
        deadline.run(work, pass).await.map(drop)
    }
}
