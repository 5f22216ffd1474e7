//! What an event does to the read model: the one place that knows, for deliveries and for replays.

use buttress_outbox::{Inbox, Message, OutboxError, Taken};
use buttress_store::{Phase, StoreError};

use crate::{
    database::{Database, Tx},
    event::{Change, OrderEvent},
};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Now,
    /// It had been applied before.
    Before,
    /// One before it is missing. Nothing was done.
    NotYet,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectionError {
    #[error("the event cannot be read")]
    Unreadable(#[from] serde_json::Error),
    #[error("the database")]
    Store(#[from] StoreError),
    #[error("the inbox")]
    Inbox(#[from] OutboxError),
}

/// The generations of the read model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generations {
    /// The one that queries read.
    pub(crate) shown: i64,
    /// The one that is being built, if any.
    pub(crate) building: Option<i64>,
    /// The greatest number that was given.
    pub(crate) last: i64,
}

impl Generations {
    pub(crate) async fn read(tx: &mut Tx) -> Result<Self, StoreError> {
        let read = "SELECT shown, building, last FROM view_control";
        let mut rows = tx.rows(read, &[]).await?;
        let missing = || StoreError::of_sqlx(sqlx::Error::RowNotFound, Phase::InTransaction);
        let (shown, building, last) = rows.pop().ok_or_else(missing)?;
        Ok(Self {
            shown,
            building,
            last,
        })
    }
}

/// What a generation has taken. Each takes every event once.
pub(crate) fn inbox(database: &Database, generation: i64) -> Result<Inbox, OutboxError> {
    let store = database.outbox().store().clone();
    Ok(Inbox::new(store, format!("view/{generation}"))?)
}

/// Applies the event of `message` to one generation, in the transaction: once, and after all events
/// of its order that come before it.
pub(crate) async fn apply(
    tx: &mut Tx,
    database: &Database,
    generation: i64,
    message: &Message,
) -> Result<Applied, ProjectionError> {
    let event: OrderEvent = serde_json::from_slice(message.payload())?;
    let place = [generation.into(), (&event.order).into()];
    let version = "SELECT version FROM view_orders WHERE generation = $1 AND id = $2";
    let found: Vec<(i64,)> = tx.rows(version, &place).await?;
    let version = found.first().map_or(0, |(version,)| *version);
    if event.version > version + 1 {
        return Ok(Applied::NotYet);
    }
    let inbox = inbox(database, generation)?;
    if tx.take(&inbox, message.id()).await? == Taken::Before {
        return Ok(Applied::Before);
    }
    write(tx, generation, &event).await?;
    Ok(Applied::Now)
}

async fn write(tx: &mut Tx, generation: i64, event: &OrderEvent) -> Result<(), StoreError> {
    if let Change::Placed = event.change {
        let insert = "INSERT INTO view_orders (generation, id, customer, state, total, version) \
                      VALUES ($1, $2, $3, 'open', 0, 0)";
        let values = [
            generation.into(),
            (&event.order).into(),
            (&event.customer).into(),
        ];
        tx.run(insert, &values).await?;
    }
    let (state, added) = match event.change {
        Change::Placed => ("open", 0),
        Change::LineAdded { quantity, price } => ("open", quantity * price),
        Change::Shipped => ("shipped", 0),
        Change::Cancelled => ("cancelled", 0),
    };
    let update = "UPDATE view_orders SET state = $3, total = total + $4, version = $5 \
                  WHERE generation = $1 AND id = $2 RETURNING total";
    let values = [
        generation.into(),
        (&event.order).into(),
        state.into(),
        added.into(),
        event.version.into(),
    ];
    let total: Vec<(i64,)> = tx.rows(update, &values).await?;
    let total = total.first().map_or(0, |(total,)| *total);
    let [open, shipped, cancelled, spent] = match event.change {
        Change::Placed => [1, 0, 0, 0],
        Change::LineAdded { .. } => return Ok(()),
        Change::Shipped => [-1, 1, 0, total],
        Change::Cancelled => [-1, 0, 1, 0],
    };
    let count = "INSERT INTO view_customers AS v \
                   (generation, customer, open, shipped, cancelled, spent) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (generation, customer) DO UPDATE \
                 SET open = v.open + excluded.open, shipped = v.shipped + excluded.shipped, \
                     cancelled = v.cancelled + excluded.cancelled, spent = v.spent + excluded.spent";
    let values = [
        generation.into(),
        (&event.customer).into(),
        open.into(),
        shipped.into(),
        cancelled.into(),
        spent.into(),
    ];
    tx.run(count, &values).await.map(drop)
}
