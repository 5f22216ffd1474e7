//! On MySQL: statements that commit by themselves, under a lock that goes with its connection.

use sqlx::{MySql, MySqlPool};

use super::{MigratedDatabase, plan::Plan, plan::Recorded};
use crate::{Deadline, Loan, MigrateError, Phase};

/// Such locks are the whole server's, so the name has the database's in it, and may have 64 bytes.
const LOCK: &str =
    "SELECT GET_LOCK(CONCAT('buttress_migrations_', MD5(COALESCE(?, DATABASE(), ''))), ?)";

impl MigratedDatabase for MySql {
    async fn migrate(
        pool: &MySqlPool,
        plan: &Plan,
        deadline: Deadline,
    ) -> Result<(), MigrateError> {
        // Never given back: the lock is the session's, and goes when the connection is closed,
        // which it is here at every return.
        let mut loan = Loan::acquire(pool, deadline).await?;
        let patience = i64::try_from(deadline.remaining().as_secs())
            .unwrap_or(i64::MAX)
            // So that it is the server who says that somebody else has it.
            .saturating_sub(1);
        let lock = sqlx::query_scalar::<_, Option<i64>>(LOCK)
            .bind(plan.schema())
            .bind(patience)
            .fetch_one(&mut *loan);
        if deadline.run(Phase::Read, lock).await? != Some(1) {
            return Err(MigrateError::Locked);
        }
        let create = sqlx::raw_sql(plan.create()).execute(&mut *loan);
        deadline.run(Phase::Statement, create).await?;
        let select = sqlx::query_as::<_, Recorded>(plan.select()).bind(plan.pattern());
        let recorded = select.fetch_all(&mut *loan);
        let recorded = deadline.run(Phase::Read, recorded).await?;
        for step in plan.missing(&recorded)? {
            let sql = sqlx::raw_sql(step.sql()).execute(&mut *loan);
            deadline.run(Phase::Statement, sql).await?;
            let insert = sqlx::query(plan.insert())
                .bind(plan.pattern())
                .bind(step.version())
                .bind(step.checksum())
                .execute(&mut *loan);
            deadline.run(Phase::Statement, insert).await?;
        }
        Ok(())
    }

    async fn recorded(
        pool: &MySqlPool,
        plan: &Plan,
        deadline: Deadline,
    ) -> Result<Vec<Recorded>, MigrateError> {
        let mut loan = Loan::acquire(pool, deadline).await?;
        let exists = sqlx::query_scalar::<_, bool>(plan.exists()).bind(plan.schema());
        let exists = exists.fetch_one(&mut *loan);
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
