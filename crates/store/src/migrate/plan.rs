//! What is to be applied: rendered once, compared with what is recorded.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::MigrateError;
use crate::{Dialect, Statement, Tables};

/// One step of a pattern's schema: a version and the SQL that leads to it.
///
/// The SQL says `{schema}` and `{prefix}` as a [`Statement`] does; it may be several statements.
/// Once released it never changes: a new step follows it.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    version: i64,
    sql: &'static str,
}

impl Migration {
    /// The step to `version`, by `sql`.
    #[must_use]
    pub const fn new(version: i64, sql: &'static str) -> Self {
        Self { version, sql }
    }
}

/// A step, rendered.
#[derive(Clone, Debug)]
pub(super) struct Step {
    version: i64,
    checksum: String,
    sql: Statement,
}

impl Step {
    pub(super) const fn version(&self) -> i64 {
        self.version
    }

    pub(super) const fn sql(&self) -> &Statement {
        &self.sql
    }

    pub(super) fn checksum(&self) -> &str {
        &self.checksum
    }
}

/// What is recorded of a step: version and checksum.
pub(super) type Recorded = (i64, String);

/// What is to be applied, and the statements that record it.
#[derive(Clone, Debug)]
#[doc(hidden)]
#[expect(unnameable_types, reason = "it passes through a sealed trait")]
pub struct Plan {
    pattern: &'static str,
    dialect: Dialect,
    tables: Tables,
    steps: Vec<Step>,
    create: Statement,
    exists: Statement,
    select: Statement,
    insert: Statement,
}

/// A checksum is 64 hexadecimal digits. The key is compared as bytes everywhere.
const CREATE_POSTGRES: &str = "CREATE TABLE IF NOT EXISTS {schema}{prefix}migrations (
    pattern text COLLATE \"C\" NOT NULL,
    version bigint NOT NULL,
    checksum text NOT NULL,
    applied_at bigint NOT NULL,
    PRIMARY KEY (pattern, version)
)";
const CREATE_MYSQL: &str = "CREATE TABLE IF NOT EXISTS {schema}{prefix}migrations (
    pattern VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version BIGINT NOT NULL,
    checksum CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (pattern, version)
) ENGINE=InnoDB";
const CREATE_SQLITE: &str = "CREATE TABLE IF NOT EXISTS {prefix}migrations (
    pattern TEXT NOT NULL,
    version INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (pattern, version)
) WITHOUT ROWID";

impl Plan {
    pub(super) fn new(
        pattern: &'static str,
        steps: &[Migration],
        tables: &Tables,
        dialect: Dialect,
    ) -> Result<Self, MigrateError> {
        let [create, exists, select, insert] = match dialect {
            Dialect::Postgres => [
                CREATE_POSTGRES,
                "SELECT to_regclass('{schema}{prefix}migrations') IS NOT NULL",
                "SELECT version, checksum FROM {schema}{prefix}migrations WHERE pattern = $1",
                "INSERT INTO {schema}{prefix}migrations (pattern, version, checksum, applied_at) VALUES ($1, $2, $3, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
            ],
            Dialect::MySql => [
                CREATE_MYSQL,
                "SELECT COUNT(*) > 0 FROM information_schema.tables WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = '{prefix}migrations'",
                "SELECT version, checksum FROM {schema}{prefix}migrations WHERE pattern = ?",
                "INSERT INTO {schema}{prefix}migrations (pattern, version, checksum, applied_at) VALUES (?, ?, ?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)))",
            ],
            Dialect::Sqlite => [
                CREATE_SQLITE,
                "SELECT COUNT(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = '{prefix}migrations'",
                "SELECT version, checksum FROM {prefix}migrations WHERE pattern = ?",
                "INSERT INTO {prefix}migrations (pattern, version, checksum, applied_at) VALUES (?, ?, ?, ?)",
            ],
        };
        let render = |sql| Statement::new(sql, tables, dialect);
        let mut rendered: Vec<Step> = Vec::with_capacity(steps.len());
        for step in steps {
            let version = step.version;
            if rendered.last().is_some_and(|last| last.version >= version) {
                return Err(MigrateError::Order { pattern, version });
            }
            rendered.push(Step {
                version,
                checksum: checksum(step.sql),
                sql: render(step.sql)?,
            });
        }
        Ok(Self {
            pattern,
            dialect,
            tables: tables.clone(),
            steps: rendered,
            create: render(create)?,
            exists: render(exists)?,
            select: render(select)?,
            insert: render(insert)?,
        })
    }

    pub(super) const fn pattern(&self) -> &'static str {
        self.pattern
    }

    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn schema(&self) -> Option<&str> {
        self.tables.schema().map(crate::Name::as_str)
    }

    pub(super) const fn create(&self) -> &Statement {
        &self.create
    }

    pub(super) const fn exists(&self) -> &Statement {
        &self.exists
    }

    pub(super) const fn select(&self) -> &Statement {
        &self.select
    }

    pub(super) const fn insert(&self) -> &Statement {
        &self.insert
    }

    /// The steps that are not recorded, in order; an error when one is, with another text.
    pub(super) fn missing(&self, recorded: &[Recorded]) -> Result<Vec<&Step>, MigrateError> {
        let mut missing = Vec::new();
        for step in &self.steps {
            match recorded
                .iter()
                .find(|(version, _)| *version == step.version)
            {
                None => missing.push(step),
                Some((_, checksum)) if *checksum == step.checksum => {}
                Some(_) => {
                    return Err(MigrateError::Changed {
                        pattern: self.pattern,
                        version: step.version,
                    });
                }
            }
        }
        Ok(missing)
    }

    pub(super) fn print(&self) -> String {
        let of_host = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)";
        let now = self.dialect.now_micros().unwrap_or(of_host);
        let schema = match (self.schema(), self.dialect) {
            (None, _) => String::new(),
            (Some(schema), Dialect::MySql) => format!("`{schema}`."),
            (Some(schema), _) => format!("\"{schema}\"."),
        };
        let prefix = self.tables.prefix();
        let mut text = format!("{};\n", self.create.as_str());
        for step in &self.steps {
            let sql = step.sql.as_str().trim_end().trim_end_matches(';');
            // Pattern and checksum are the program's own: no quote can be in them.
            let _ = write!(
                text,
                "\n-- {} {}\n{sql};\nINSERT INTO {schema}{prefix}migrations (pattern, version, checksum, applied_at) VALUES ('{}', {}, '{}', {now});\n",
                self.pattern, step.version, self.pattern, step.version, step.checksum,
            );
        }
        text
    }
}

/// Of the text before names are put in: the same for everybody's prefix. Line ends do not count,
/// for a checkout may change them.
fn checksum(sql: &str) -> String {
    let digest = Sha256::digest(sql.replace("\r\n", "\n"));
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_must_rise() {
        let step = |version| Migration::new(version, "SELECT 1");
        for versions in [[1, 1], [2, 1]] {
            let plan = Plan::new(
                "x",
                &versions.map(step),
                &Tables::default(),
                Dialect::Sqlite,
            );
            assert!(matches!(plan, Err(MigrateError::Order { version: 1, .. })));
        }
    }

    #[test]
    fn the_checksum_is_of_the_text_and_not_of_the_checkout() {
        assert_eq!(checksum("a\r\nb"), checksum("a\nb"));
        assert_ne!(checksum("a\nb"), checksum("a\nc"));
        assert_eq!(checksum("").len(), 64);
    }
}
