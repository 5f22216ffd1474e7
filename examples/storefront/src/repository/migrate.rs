//! The schema and the demo catalogue, in numbered steps that each run once.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// The migrations of a database whose schema is `schema`.
///
/// To be run inside a transaction that keeps every other instance out: the library's own lock is
/// not taken, for a failure can leave it held on a pooled connection.
pub(super) fn migrator(schema: &'static str) -> Migrator {
    let step = |version, name: &'static str, sql: &'static str| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    let mut migrator = Migrator::with_migrations(vec![
        step(1, "shop", schema),
        step(
            2,
            "catalogue",
            include_str!("../../migrations/0002_catalogue.sql"),
        ),
        step(
            3,
            "events",
            include_str!("../../migrations/0003_events.sql"),
        ),
    ]);
    migrator.set_locking(false);
    migrator
}
