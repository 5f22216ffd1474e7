//! Appending, in the user's transaction: to the table of messages, or to the stream.

use buttress_store::StoreError;
use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::Query};

use super::PostgresStore;
use crate::{message::Due, store::NewRow};

/// Whether it may go to the stream, which has no time before which a message is not due.
fn is_streamed(row: &NewRow<'_>) -> bool {
    row.ring && matches!(row.due, Due::Now)
}

impl PostgresStore {
    /// One statement, unless some of them go to the stream and others do not: then as many as there
    /// are runs of one kind, for the ids must be given in this order.
    pub(super) async fn append_now(
        &self,
        connection: &mut PgConnection,
        rows: &[NewRow<'_>],
    ) -> Result<(), StoreError> {
        let alike = |one: &NewRow<'_>, two: &NewRow<'_>| match (is_streamed(one), is_streamed(two))
        {
            (true, true) => one.topic == two.topic,
            (one, two) => one == two,
        };
        for run in rows.chunk_by(alike) {
            let streamed = run.first().is_some_and(is_streamed);
            if streamed && self.run(&mut *connection, self.to_stream(run)).await? > 0 {
                continue;
            }
            // Not all lanes are known as lanes of the ring yet.
            self.run(&mut *connection, self.to_table(run)).await?;
        }
        Ok(())
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, StoreError> {
        let done = query.execute(connection).await;
        let done = done.map_err(StoreError::in_transaction)?;
        Ok(done.rows_affected())
    }

    fn to_stream<'q>(&'q self, rows: &'q [NewRow<'q>]) -> Query<'q, Postgres, PgArguments> {
        let topic = rows.first().map_or("", |row| row.topic);
        if let [row] = rows {
            sqlx::query(&self.ring.append)
                .bind(topic)
                .bind(row.lane)
                .bind(&row.key[..])
                .bind(&row.attributes[..])
                .bind(row.payload)
        } else {
            sqlx::query(&self.ring.append_all)
                .bind(topic)
                .bind(rows.iter().map(|it| it.lane).collect::<Vec<_>>())
                .bind(rows.iter().map(|it| &it.key[..]).collect::<Vec<_>>())
                .bind(rows.iter().map(|it| &it.attributes[..]).collect::<Vec<_>>())
                .bind(rows.iter().map(|it| it.payload).collect::<Vec<_>>())
        }
    }

    fn to_table<'q>(&'q self, rows: &'q [NewRow<'q>]) -> Query<'q, Postgres, PgArguments> {
        if let [row] = rows {
            let (delay, not_before) = row.due_parts();
            sqlx::query(&self.sql.append)
                .bind(row.topic)
                .bind(row.lane)
                .bind(&row.key[..])
                .bind(delay)
                .bind(not_before)
                .bind(&row.attributes[..])
                .bind(row.payload)
        } else {
            let due: Vec<(i64, i64)> = rows.iter().map(NewRow::due_parts).collect();
            let (delays, times): (Vec<_>, Vec<_>) = due.into_iter().unzip();
            sqlx::query(&self.sql.append_all)
                .bind(rows.iter().map(|it| it.topic).collect::<Vec<_>>())
                .bind(rows.iter().map(|it| it.lane).collect::<Vec<_>>())
                .bind(rows.iter().map(|it| &it.key[..]).collect::<Vec<_>>())
                .bind(delays)
                .bind(times)
                .bind(rows.iter().map(|it| &it.attributes[..]).collect::<Vec<_>>())
                .bind(rows.iter().map(|it| it.payload).collect::<Vec<_>>())
        }
    }
}
