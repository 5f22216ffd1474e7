//! What changes orders: each command is one transaction, in which the tables are written and the
//! event is appended that says so.

use buttress_outbox::Message;
use buttress_store::{AfterCommit, StoreError};
use uuid::Uuid;

use crate::{
    database::{Database, Tx},
    event::{Change, OrderEvent, TOPIC},
};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such order, or it is shipped or cancelled.
    #[error("there is no such open order")]
    NotOpen,
    /// The database.
    #[error("the database")]
    Store(#[from] StoreError),
    /// The outbox.
    #[error("the outbox")]
    Outbox(#[from] buttress_outbox::OutboxError),
}

impl From<buttress_outbox::MessageError> for CommandError {
    fn from(error: buttress_outbox::MessageError) -> Self {
        Self::Outbox(error.into())
    }
}

/// The side that writes.
#[derive(Clone, Debug)]
pub struct Shop {
    database: Database,
}

impl Shop {
    /// The shop in this database.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Places an order without lines, and returns its id.
    ///
    /// # Errors
    ///
    /// [`CommandError`]
    pub async fn place(&self, customer: &str) -> Result<String, CommandError> {
        let order = Uuid::now_v7().simple().to_string();
        let mut tx = self.database.begin().await?;
        let insert = "INSERT INTO orders (id, customer, state, version) VALUES ($1, $2, 'open', 1)";
        tx.run(insert, &[(&order).into(), customer.into()]).await?;
        let event = OrderEvent {
            order: order.clone(),
            customer: customer.to_owned(),
            version: 1,
            change: Change::Placed,
        };
        self.tell(tx, &event).await?;
        Ok(order)
    }

    /// Adds a line to an open order.
    ///
    /// # Errors
    ///
    /// [`CommandError`]
    pub async fn add(&self, order: &str, quantity: i64, price: i64) -> Result<(), CommandError> {
        let (mut tx, event) = self
            .change(order, "open", Change::LineAdded { quantity, price })
            .await?;
        let insert =
            "INSERT INTO order_lines (order_id, line, quantity, price) VALUES ($1, $2, $3, $4)";
        let values = [
            order.into(),
            event.version.into(),
            quantity.into(),
            price.into(),
        ];
        tx.run(insert, &values).await?;
        self.tell(tx, &event).await
    }

    /// Ships an open order.
    ///
    /// # Errors
    ///
    /// [`CommandError`]
    pub async fn ship(&self, order: &str) -> Result<(), CommandError> {
        let (tx, event) = self.change(order, "shipped", Change::Shipped).await?;
        self.tell(tx, &event).await
    }

    /// Cancels an open order.
    ///
    /// # Errors
    ///
    /// [`CommandError`]
    pub async fn cancel(&self, order: &str) -> Result<(), CommandError> {
        let (tx, event) = self.change(order, "cancelled", Change::Cancelled).await?;
        self.tell(tx, &event).await
    }

    /// Begins with the order's row: whoever changes it next waits here, so that events of an order
    /// are appended one after the other.
    async fn change(
        &self,
        order: &str,
        state: &str,
        change: Change,
    ) -> Result<(Tx, OrderEvent), CommandError> {
        let mut tx = self.database.begin().await?;
        let update = "UPDATE orders SET state = $2, version = version + 1 \
                      WHERE id = $1 AND state = 'open' RETURNING customer, version";
        let mut found = tx.rows(update, &[order.into(), state.into()]).await?;
        let (customer, version) = found.pop().ok_or(CommandError::NotOpen)?;
        let event = OrderEvent {
            order: order.to_owned(),
            customer,
            version,
            change,
        };
        Ok((tx, event))
    }

    /// Appends the event and commits.
    async fn tell(&self, mut tx: Tx, event: &OrderEvent) -> Result<(), CommandError> {
        let message = Message::builder(TOPIC, "/read-model", event.change.name())
            .key(&event.order)
            .subject(&event.order)
            .json(event)
            .build()?;
        let told: AfterCommit = tx.append(self.database.outbox(), &message).await?;
        tx.commit().await?;
        told.fire();
        Ok(())
    }
}
