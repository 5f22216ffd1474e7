//! What a write does beyond its own saga on PostgreSQL: it starts children, and wakes a parent.

use buttress_store::Key;
use sqlx::{Postgres, postgres::PgArguments, query::Query};

use crate::{rows, store::Write};

/// Binds what a write starts and whom it wakes.
pub(super) fn reach<'q>(
    query: Query<'q, Postgres, PgArguments>,
    write: &Write,
) -> Query<'q, Postgres, PgArguments> {
    let starts = || write.starts.iter();
    let ids: Vec<Vec<u8>> = starts().map(|it| it.id.as_bytes().to_vec()).collect();
    let names: Vec<String> = starts().map(|it| it.definition.name.clone()).collect();
    let versions: Vec<i64> = starts()
        .map(|it| i64::from(it.definition.version))
        .collect();
    let shapes: Vec<Vec<u8>> = starts().map(|it| it.definition.shape.to_vec()).collect();
    let keys: Vec<Option<Vec<u8>>> = starts()
        .map(|it| it.business_key.as_ref().map(Key::as_bytes))
        .map(|key| key.map(<[u8]>::to_vec))
        .collect();
    let inputs: Vec<Vec<u8>> = starts().map(|it| it.input.clone()).collect();
    let parents: Vec<Option<Vec<u8>>> = starts()
        .map(|it| it.parent.map(|id| id.as_bytes().to_vec()))
        .collect();
    query
        .bind(ids)
        .bind(names)
        .bind(versions)
        .bind(shapes)
        .bind(keys)
        .bind(inputs)
        .bind(parents)
        .bind(write.wakes.map(|id| id.as_bytes().to_vec()))
}

/// How long a journal must be for a write in a batch. One that reaches others goes alone.
pub(super) fn expected(write: &Write) -> i64 {
    match write.reaches_others() {
        true => -1, // No journal is that long.
        false => rows::place(write.expected, 0),
    }
}
