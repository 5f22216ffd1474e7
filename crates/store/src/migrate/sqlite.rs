//! On SQLite: one transaction that has the write lock from its beginning.

use std::time::Duration;

use sqlx::{Sqlite, SqlitePool};

use super::{MigratedDatabase, plan::Plan, plan::Recorded};
use crate::{Deadline, Guarded, Loan, Micros, MigrateError, Phase, StoreErrorKind};

/// How soon the write lock is asked for again.
const AGAIN: Duration = Duration::from_millis(10);

impl MigratedDatabase for Sqlite {
    async fn migrate(
        pool: &SqlitePool,
        plan: &Plan,
        deadline: Deadline,
    ) -> Result<(), MigrateError> {
        let mut transaction = loop {
            match Guarded::begin(pool, deadline).await {
                Ok(transaction) => break transaction,
                Err(error) if error.kind() == StoreErrorKind::Contended => {}
                Err(error) => return Err(error.into()),
            }
            if deadline.remaining().is_zero() {
                return Err(MigrateError::Locked);
            }
            // Beyond the busy timeout, which the user may have set to nothing.
            tokio::time::sleep(AGAIN).await;
        };
        let work = Phase::InTransaction;
        let create = sqlx::raw_sql(plan.create()).execute(&mut *transaction);
        deadline.run(work, create).await?;
        let select = sqlx::query_as::<_, Recorded>(plan.select()).bind(plan.pattern());
        let recorded = select.fetch_all(&mut *transaction);
        let recorded = deadline.run(work, recorded).await?;
        for step in plan.missing(&recorded)? {
            let sql = sqlx::raw_sql(step.sql()).execute(&mut *transaction);
            deadline.run(work, sql).await?;
            let insert = sqlx::query(plan.insert())
                .bind(plan.pattern())
                .bind(step.version())
                .bind(step.checksum())
                .bind(Micros::of_host().get())
                .execute(&mut *transaction);
            deadline.run(work, insert).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn recorded(
        pool: &SqlitePool,
        plan: &Plan,
        deadline: Deadline,
    ) -> Result<Vec<Recorded>, MigrateError> {
        let mut loan = Loan::acquire(pool, deadline).await?;
        let exists = sqlx::query_scalar(plan.exists()).fetch_one(&mut *loan);
        let mut recorded = Vec::new();
        if deadline.run(Phase::Read, exists).await? {
            let select = sqlx::query_as(plan.select()).bind(plan.pattern());
            let rows = select.fetch_all(&mut *loan);
            recorded = deadline.run(Phase::Read, rows).await?;
        }
        loan.give_back();
        Ok(recorded)
    }
}
