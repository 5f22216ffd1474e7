//! Statements: plain SQL with a checked name in it, rendered once.

use std::{fmt, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::{Dialect, NameError, Tables};

/// What PostgreSQL keeps of an identifier. It cuts the rest off without a word; MySQL keeps 64.
const LONGEST_IDENTIFIER: usize = 63;

/// A statement, rendered once, when a store is made: SQL of ours with checked names in it. It is
/// the only SQL of the family that is not a literal, and the one place that vouches for it.
///
/// The SQL says `{schema}` where the schema with its dot belongs, and `{prefix}` where a name
/// begins: `SELECT … FROM {schema}{prefix}outbox`; an index has no schema of its own:
/// `CREATE INDEX {prefix}outbox_due ON {schema}{prefix}outbox (…)`. Values are bound, always.
///
/// ```
/// use buttress_store::{Dialect, Statement, Tables};
///
/// let count = Statement::new("SELECT count(*) FROM {schema}{prefix}outbox", &Tables::default(), Dialect::Postgres)?;
/// assert_eq!(count.as_str(), "SELECT count(*) FROM buttress_outbox");
/// let query = sqlx::query(&count); // and sqlx takes it
/// # drop::<sqlx::query::Query<'_, sqlx::Sqlite, _>>(query);
/// # Ok::<(), buttress_store::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Statement(Arc<str>);

impl Statement {
    /// Renders `sql` for the tables that the user chose.
    ///
    /// # Errors
    ///
    /// [`NameError`], when an identifier becomes longer than 63 bytes, or SQLite is given a schema.
    pub fn new(sql: &'static str, tables: &Tables, dialect: Dialect) -> Result<Self, NameError> {
        let schema = match (tables.schema(), dialect) {
            (None, _) => String::new(),
            (Some(_), Dialect::Sqlite) => return Err(NameError::NoSchemas),
            // Quoted, for a checked name may still be a word of the language: `order`, `user`.
            (Some(schema), Dialect::MySql) => format!("`{schema}`."),
            (Some(schema), Dialect::Postgres) => format!("\"{schema}\"."),
        };
        let prefix = tables.prefix().as_str();
        for rest in sql.split("{prefix}").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if prefix.len() + end.unwrap_or(rest.len()) > LONGEST_IDENTIFIER {
                return Err(NameError::TooLong);
            }
        }
        let sql = sql.replace("{schema}", &schema).replace("{prefix}", prefix);
        Ok(Self(sql.into()))
    }

    /// The SQL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Safe, because what was put into the literal is a checked name. Costs no copy of the text.
impl SqlSafeStr for &Statement {
    fn into_sql_str(self) -> SqlStr {
        AssertSqlSafe(Arc::clone(&self.0)).into_sql_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_quoted_as_its_dialect_quotes() {
        let tables = Tables::default().in_schema("order").unwrap();
        for (dialect, sql) in [
            (Dialect::Postgres, "DELETE FROM \"order\".buttress_x"),
            (Dialect::MySql, "DELETE FROM `order`.buttress_x"),
        ] {
            let statement = Statement::new("DELETE FROM {schema}{prefix}x", &tables, dialect);
            assert_eq!(statement.unwrap().as_str(), sql);
        }
        let sqlite = Statement::new("{schema}", &tables, Dialect::Sqlite);
        assert_eq!(sqlite, Err(NameError::NoSchemas));
    }

    #[test]
    fn an_identifier_that_would_be_cut_is_refused() {
        let tables = Tables::default().with_prefix(&"p".repeat(41)).unwrap();
        let fits = "SELECT * FROM {prefix}abcdefghijklmnopqrstuv x";
        let cut = "SELECT * FROM {prefix}abcdefghijklmnopqrstuvw";
        assert!(Statement::new(fits, &tables, Dialect::Sqlite).is_ok());
        let refused = Statement::new(cut, &tables, Dialect::Sqlite);
        assert_eq!(refused, Err(NameError::TooLong));
    }
}
