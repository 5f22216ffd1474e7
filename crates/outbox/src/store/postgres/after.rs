//! An append that rides in a statement of the user's own.

use std::{fmt, sync::Arc};

use buttress_store::Name;
use sqlx::{Postgres, postgres::PgArguments, query::Query};

use super::LANES;
use crate::{Message, MessageError, Outbox, OutboxError, message::Due, outbox::row};

/// An append as the end of a statement of yours: one round trip for both. Made by
/// [`Outbox::append_after`].
#[derive(Clone)]
pub struct AppendAfter {
    sql: Arc<str>,
    stream: bool,
}

impl Outbox {
    /// PostgreSQL: an append that rides in a statement of yours, which begins `WITH cte AS (…
    /// RETURNING …)` and has `first - 1` parameters of its own. Make it once.
    ///
    /// A message is appended if that part returns a row, one however many it returns; it is given
    /// its place after the first of them was locked. So what the key stands for must be what your
    /// part changes, and messages of a key are in the order of its changes, as with
    /// [`append_in`](Self::append_in) behind an UPDATE. By itself, or in a transaction.
    ///
    /// ```
    /// # use buttress_outbox::{Message, Outbox, OutboxError};
    /// # async fn doc(outbox: Outbox, pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// let append = outbox.append_after("paid", 2)?;
    /// let sql = format!(
    ///     "WITH paid AS (UPDATE orders SET paid = TRUE WHERE id = $1 AND NOT paid RETURNING id) {}",
    ///     append.sql()
    /// );
    /// let message = Message::builder("orders", "/shop", "order.paid").key("order 7").build()?;
    /// let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(7_i64);
    /// let done = append.bind(query, &message).execute(&pool).await?;
    /// if done.rows_affected() == 1 {
    ///     outbox.look(); // committed, with the message: relays of this process look at once
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutboxError::Message`], when `cte` is no name of `[a-z_][a-z0-9_]{0,40}`, `first` is not 1
    /// to 1000, or the outbox is on another dialect: its statements cannot do it.
    pub fn append_after(&self, cte: &str, first: u16) -> Result<AppendAfter, OutboxError> {
        let cte = checked(cte, first)?;
        let into = self.store.store.insert_into();
        let into = into.ok_or(NOT_HERE)?;
        let [topic, lane, key, delay, not_before, attributes, payload] =
            [0, 1, 2, 3, 4, 5, 6].map(|place: u16| first + place);
        // From your part, so that its first row is locked before the place is given.
        let sql = format!(
            "{into} SELECT ${topic}, ${lane}, ${key}, c.now, \
             CASE WHEN ${delay} > 0 THEN c.now + ${delay} ELSE ${not_before} END, \
             ${attributes}, ${payload} \
             FROM (SELECT 1 FROM {cte} LIMIT 1) AS yours, \
             (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) AS c"
        );
        Ok(AppendAfter {
            sql: sql.into(),
            stream: false,
        })
    }

    /// The same for messages of topics [in a ring](crate::OutboxStore::with_ring), and no others:
    /// five values. (By [`append_after`](Self::append_after) such a topic's messages go to the table,
    /// and come in order all the same.)
    ///
    /// For a message of a topic whose lanes are not all lanes of the ring yet, or one that is not due
    /// at once, your statement fails, as a whole: `topic` is NULL then, which the table refuses. So
    /// have a relay run first.
    ///
    /// # Errors
    ///
    /// As [`append_after`](Self::append_after).
    pub fn append_after_in_ring(&self, cte: &str, first: u16) -> Result<AppendAfter, OutboxError> {
        let cte = checked(cte, first)?;
        let into = self.store.store.insert_into_stream();
        let (into, opened) = into.ok_or(NOT_HERE)?;
        let [topic, lane, key, attributes, payload] = [0, 1, 2, 3, 4].map(|it: u16| first + it);
        let sql = format!(
            "{into} SELECT (SELECT ring.topic FROM {opened} AS ring WHERE ring.topic = ${topic}), \
             ${lane}, ${key}, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
             ${attributes}, ${payload} FROM (SELECT 1 FROM {cte} LIMIT 1) AS yours"
        );
        Ok(AppendAfter {
            sql: sql.into(),
            stream: true,
        })
    }
}

const NOT_HERE: MessageError = MessageError::Field {
    field: "outbox",
    rule: "on PostgreSQL",
};

fn checked(cte: &str, first: u16) -> Result<Name, MessageError> {
    let wrong = |field, rule| MessageError::Field { field, rule };
    let name = Name::new(cte);
    let cte = name.map_err(|_| wrong("cte", "[a-z_][a-z0-9_]{0,40}"))?;
    if !(1..=1000).contains(&first) {
        return Err(wrong("first", "1 to 1000"));
    }
    Ok(cte)
}

impl AppendAfter {
    /// The end of the statement: an INSERT that selects from your part. It holds checked names and
    /// numbers of parameters, and nothing else that came from outside.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Binds the message behind the parameters of your own: seven values, in a ring five.
    pub fn bind<'q>(
        &self,
        query: Query<'q, Postgres, PgArguments>,
        message: &'q Message,
    ) -> Query<'q, Postgres, PgArguments> {
        let row = row(message, LANES);
        if self.stream {
            let topic = matches!(row.due, Due::Now).then_some(row.topic);
            return query
                .bind(topic)
                .bind(row.lane)
                .bind(row.key)
                .bind(row.attributes)
                .bind(row.payload);
        }
        let (delay, not_before) = row.due_parts();
        query
            .bind(row.topic)
            .bind(row.lane)
            .bind(row.key)
            .bind(delay)
            .bind(not_before)
            .bind(row.attributes)
            .bind(row.payload)
    }
}

impl fmt::Debug for AppendAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AppendAfter").field(&self.sql).finish()
    }
}
