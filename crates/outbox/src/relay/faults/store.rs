//! A store whose operations fail when they are told to.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{Dialect, Lent, MigrateError, Phase, StoreError};
use buttress_testkit::fault::{Injected, Plan};
use tokio::time::timeout;

use crate::{
    message::Topic,
    operations::{Counts, DeadRow, PastRow, WaitingRow},
    store::{
        AsideRow, Beat, Bounds, Claimed, Held, LeaveOut, NewRow, Reach, Row, Settlement, Sighting,
        Store, Truncated,
    },
};

pub(super) struct FaultStore {
    pub(super) inner: Arc<dyn Store>,
    pub(super) plan: Plan<StoreError>,
    /// What hangs is ended then, as by a store's own deadline.
    pub(super) deadline: Duration,
}

pub(super) fn error(injected: Injected) -> StoreError {
    if injected.may_have_been_done() {
        unknown()
    } else {
        StoreError::of_sqlx(sqlx::Error::PoolTimedOut, Phase::Connect)
    }
}

fn unknown() -> StoreError {
    let lost = sqlx::Error::Io(io::ErrorKind::ConnectionReset.into());
    StoreError::of_sqlx(lost, Phase::Statement)
}

impl FaultStore {
    async fn around<T>(
        &self,
        name: &'static str,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let done = timeout(self.deadline, self.plan.around(name, operation)).await;
        done.unwrap_or_else(|_| Err(unknown()))
    }
}

#[async_trait]
impl Store for FaultStore {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    async fn sight(&self) -> Result<Sighting, StoreError> {
        self.around("sight", self.inner.sight()).await
    }

    async fn ring(&self, topic: &Topic) -> Result<bool, StoreError> {
        self.around("ring", self.inner.ring(topic)).await
    }

    async fn positions(&self, topic: &Topic, lanes: &[i16]) -> Result<Vec<(i16, i64)>, StoreError> {
        let done = self.inner.positions(topic, lanes);
        self.around("positions", done).await
    }

    async fn ring_window(
        &self,
        topic: &Topic,
        from: &[Reach],
        leave_out: LeaveOut,
        per_lane: u32,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let done = self
            .inner
            .ring_window(topic, from, leave_out, per_lane, limit);
        self.around("ring_window", done).await
    }

    async fn truncate(&self) -> Result<Truncated, StoreError> {
        self.around("truncate", self.inner.truncate()).await
    }

    fn lanes(&self) -> i16 {
        self.inner.lanes()
    }

    async fn migrate(&self) -> Result<(), MigrateError> {
        self.inner.migrate().await
    }

    async fn check(&self) -> Result<(), MigrateError> {
        self.inner.check().await
    }

    fn print(&self) -> String {
        self.inner.print()
    }

    async fn append(&self, connection: Lent<'_>, rows: &[NewRow<'_>]) -> Result<(), StoreError> {
        let done = self.inner.append(connection, rows);
        self.around("append", done).await
    }

    async fn prepare(&self, topic: &Topic) -> Result<(), StoreError> {
        self.around("prepare", self.inner.prepare(topic)).await
    }

    async fn beat(
        &self,
        topic: &Topic,
        relay: &[u8; 16],
        lease: Duration,
        held: &[Held],
    ) -> Result<Beat, StoreError> {
        let done = self.inner.beat(topic, relay, lease, held);
        self.around("beat", done).await
    }

    async fn claim(
        &self,
        topic: &Topic,
        lease: Duration,
        most: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let done = self.inner.claim(topic, lease, most);
        self.around("claim", done).await
    }

    async fn release(&self, topic: &Topic, held: &[Held]) -> Result<(), StoreError> {
        self.around("release", self.inner.release(topic, held))
            .await
    }

    async fn leave(&self, topic: &Topic, relay: &[u8; 16]) -> Result<(), StoreError> {
        self.around("leave", self.inner.leave(topic, relay)).await
    }

    async fn asides(
        &self,
        topic: &Topic,
        lanes: &[i16],
        most: u32,
    ) -> Result<Vec<AsideRow>, StoreError> {
        let done = self.inner.asides(topic, lanes, most);
        self.around("asides", done).await
    }

    async fn window(
        &self,
        topic: &Topic,
        from: &[(i16, i64)],
        leave_out: LeaveOut,
        per_lane: u32,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let done = self.inner.window(topic, from, leave_out, per_lane, limit);
        self.around("window", done).await
    }

    async fn alone(&self, topic: &Topic, held: Held, id: i64) -> Result<bool, StoreError> {
        self.around("alone", self.inner.alone(topic, held, id))
            .await
    }

    async fn settle(&self, topic: &Topic, settlement: Settlement) -> Result<Vec<i16>, StoreError> {
        let done = self.inner.settle(topic, settlement);
        self.around("settle", done).await
    }

    async fn counts(&self, topic: &Topic) -> Result<Counts, StoreError> {
        self.around("counts", self.inner.counts(topic)).await
    }

    async fn dead(&self, topic: &Topic, after: i64, most: u32) -> Result<Vec<DeadRow>, StoreError> {
        self.around("dead", self.inner.dead(topic, after, most))
            .await
    }

    async fn history(
        &self,
        topic: &Topic,
        after: i64,
        most: u32,
    ) -> Result<Vec<PastRow>, StoreError> {
        self.around("history", self.inner.history(topic, after, most))
            .await
    }

    async fn requeue(
        &self,
        topic: &Topic,
        id: i64,
        attributes: Option<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        let done = self.inner.requeue(topic, id, attributes);
        self.around("requeue", done).await
    }

    async fn skip(&self, topic: &Topic, id: i64) -> Result<bool, StoreError> {
        self.around("skip", self.inner.skip(topic, id)).await
    }

    async fn waiting(&self, topic: &Topic, most: u32) -> Result<Vec<WaitingRow>, StoreError> {
        self.around("waiting", self.inner.waiting(topic, most))
            .await
    }

    async fn unblock(&self, topic: &Topic, lane: i16, key: &[u8]) -> Result<bool, StoreError> {
        self.around("unblock", self.inner.unblock(topic, lane, key))
            .await
    }

    async fn pause(&self, topic: &Topic, reason: Option<&str>) -> Result<(), StoreError> {
        self.around("pause", self.inner.pause(topic, reason)).await
    }

    async fn prune(&self, topic: &Topic, kept: Duration, most: u32) -> Result<u64, StoreError> {
        self.around("prune", self.inner.prune(topic, kept, most))
            .await
    }

    async fn take(
        &self,
        connection: Lent<'_>,
        consumer: &[u8],
        message: &[u8],
    ) -> Result<bool, StoreError> {
        let done = self.inner.take(connection, consumer, message);
        self.around("take", done).await
    }

    async fn was_taken(&self, consumer: &[u8], message: &[u8]) -> Result<bool, StoreError> {
        let done = self.inner.was_taken(consumer, message);
        self.around("was_taken", done).await
    }

    async fn prune_inbox(
        &self,
        consumer: &[u8],
        kept: Duration,
        most: u32,
    ) -> Result<u64, StoreError> {
        let done = self.inner.prune_inbox(consumer, kept, most);
        self.around("prune_inbox", done).await
    }
}
