//! What a write does beyond its own saga on MySQL 8 and MariaDB: it starts children, and wakes a
//! parent.

use buttress_store::StoreError;
use sqlx::MySqlConnection;

use super::{MySqlStore, signal::Level};
use crate::{
    SagaId,
    store::{NewSaga, Write},
};

impl MySqlStore {
    /// Writes down whose child a saga is that was just recorded.
    pub(super) async fn adopt_on(
        &self,
        connection: &mut MySqlConnection,
        new: &NewSaga,
    ) -> Result<(), StoreError> {
        let Some(parent) = new.parent else {
            return Ok(());
        };
        sqlx::query(&self.sql.adopt)
            .bind(&new.id.as_bytes()[..])
            .bind(&parent.as_bytes()[..])
            .execute(connection)
            .await
            .map_err(StoreError::in_transaction)?;
        Ok(())
    }

    /// In the transaction of the saga's own write. A parent's row is locked behind its child's, and
    /// never the other way round: a child that is started is a new row.
    pub(super) async fn reach_on(
        &self,
        connection: &mut MySqlConnection,
        level: Level,
        id: SagaId,
        write: &Write,
    ) -> Result<(), StoreError> {
        for new in &write.starts {
            self.insert_on(connection, new).await?;
        }
        if let Some(parent) = write.wakes {
            // Who gives the parent back has the same lock: whoever is second sees the first.
            sqlx::query(&self.sql.lock)
                .bind(&parent.as_bytes()[..])
                .fetch_optional(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            sqlx::query(&self.sql.count_child)
                .bind(&id.as_bytes()[..])
                .execute(&mut *connection)
                .await
                .map_err(StoreError::in_transaction)?;
            self.wake_on(connection, level, parent).await?;
        }
        Ok(())
    }
}
