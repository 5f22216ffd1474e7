//! The side that reads: each query is one statement, so that it sees one generation as a whole.

use std::{collections::BTreeMap, time::Duration};

use buttress_outbox::{OutboxError, Topic};
use buttress_store::{Phase, StoreError};

use crate::{database::Database, event::TOPIC};

/// What a customer's orders came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Customer {
    /// Orders that are open.
    pub open: i64,
    /// Orders that were shipped.
    pub shipped: i64,
    /// Orders that were cancelled.
    pub cancelled: i64,
    /// What the shipped ones cost.
    pub spent: i64,
}

/// Customers, by name.
pub type Customers = BTreeMap<String, Customer>;

/// How far the read model is behind.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Lag {
    /// Events that it has not taken.
    pub events: u64,
    /// How long ago the oldest of them happened.
    pub age: Duration,
}

/// Two figures that must agree, and one that must never become less, of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Whole {
    /// The generation that is shown.
    pub generation: i64,
    /// Orders, as counted by customer.
    pub by_customer: i64,
    /// Orders, counted.
    pub by_order: i64,
    /// Events that have been applied.
    pub events: i64,
}

type CustomerRow = (String, i64, i64, i64, i64);

fn customers(rows: Vec<CustomerRow>) -> Customers {
    let customer = |(name, open, shipped, cancelled, spent)| {
        let customer = Customer {
            open,
            shipped,
            cancelled,
            spent,
        };
        (name, customer)
    };
    rows.into_iter().map(customer).collect()
}

/// The side that reads.
#[derive(Clone, Debug)]
pub struct Queries {
    database: Database,
}

impl Queries {
    /// The read model in this database.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    /// The customers, as the read model has them.
    ///
    /// # Errors
    ///
    /// The database.
    pub async fn customers(&self) -> Result<Customers, StoreError> {
        let read = "SELECT v.customer, v.open, v.shipped, v.cancelled, v.spent \
                    FROM view_control c JOIN view_customers v ON v.generation = c.shown";
        Ok(customers(self.database.read(read).await?))
    }

    /// The customers, counted from the orders themselves: what the read model comes to.
    ///
    /// # Errors
    ///
    /// The database.
    pub async fn counted(&self) -> Result<Customers, StoreError> {
        let count = "SELECT o.customer, \
                CAST(sum(CASE WHEN o.state = 'open' THEN 1 ELSE 0 END) AS BIGINT), \
                CAST(sum(CASE WHEN o.state = 'shipped' THEN 1 ELSE 0 END) AS BIGINT), \
                CAST(sum(CASE WHEN o.state = 'cancelled' THEN 1 ELSE 0 END) AS BIGINT), \
                CAST(sum(CASE WHEN o.state = 'shipped' THEN coalesce( \
                    (SELECT sum(l.quantity * l.price) FROM order_lines l WHERE l.order_id = o.id), \
                    0) ELSE 0 END) AS BIGINT) \
             FROM orders o GROUP BY o.customer";
        Ok(customers(self.database.read(count).await?))
    }

    /// What must agree in every moment.
    ///
    /// # Errors
    ///
    /// The database.
    pub async fn whole(&self) -> Result<Whole, StoreError> {
        let read = "SELECT c.shown, \
                (SELECT CAST(coalesce(sum(v.open + v.shipped + v.cancelled), 0) AS BIGINT) \
                   FROM view_customers v WHERE v.generation = c.shown), \
                (SELECT count(*) FROM view_orders o WHERE o.generation = c.shown), \
                (SELECT CAST(coalesce(sum(o.version), 0) AS BIGINT) \
                   FROM view_orders o WHERE o.generation = c.shown) \
             FROM view_control c";
        let mut rows = self.database.read(read).await?;
        let missing = || StoreError::of_sqlx(sqlx::Error::RowNotFound, Phase::Read);
        let (generation, by_customer, by_order, events) = rows.pop().ok_or_else(missing)?;
        Ok(Whole {
            generation,
            by_customer,
            by_order,
            events,
        })
    }

    /// How far the read model is behind.
    ///
    /// # Errors
    ///
    /// The outbox.
    pub async fn lag(&self) -> Result<Lag, OutboxError> {
        let counts = self.database.outbox().counts(&Topic::new(TOPIC)?).await?;
        Ok(Lag {
            events: counts.depth + counts.dead,
            age: counts.oldest_age,
        })
    }
}
