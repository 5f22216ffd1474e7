//! On PostgreSQL: one transaction under a lock that ends with it.

use sqlx::{PgPool, Postgres};

use super::{MigratedDatabase, plan::Plan, plan::Recorded};
use crate::{Deadline, Guarded, Isolation, Loan, MigrateError, Phase};

/// `butt` and `ress`, in ASCII. Of the transaction, so it cannot stay behind on a pooled
/// connection, as a session's lock does. And for as long, what is there already is no news: drivers
/// log each notice.
const LOCK: &str = "SET LOCAL client_min_messages TO warning;
    SELECT pg_advisory_xact_lock(1651864692, 1919251315)";

impl MigratedDatabase for Postgres {
    async fn migrate(pool: &PgPool, plan: &Plan, deadline: Deadline) -> Result<(), MigrateError> {
        // READ COMMITTED: what is read after the wait for the lock was written by whom we waited for.
        let mut transaction = Guarded::begin_at(Isolation::ReadCommitted, pool, deadline).await?;
        let work = Phase::InTransaction;
        let lock = sqlx::raw_sql(LOCK).execute(&mut *transaction);
        deadline.run(work, lock).await?;
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
                .execute(&mut *transaction);
            deadline.run(work, insert).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn recorded(
        pool: &PgPool,
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
