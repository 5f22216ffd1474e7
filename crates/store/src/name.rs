//! The names that may stand in SQL: checked once, so they need no quoting afterwards.

use std::{fmt, sync::Arc};

/// A name that may stand in SQL: `[a-z_][a-z0-9_]{0,40}`.
///
/// No database folds, quotes or truncates it, and it holds nothing that could end an identifier.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The most bytes a name may have. It leaves 22 of the 63 that PostgreSQL keeps of an
    /// identifier for what a pattern puts behind it.
    pub const LONGEST: usize = 41;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`NameError`], when it is not `[a-z_][a-z0-9_]{0,40}`.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.len() > Self::LONGEST {
            return Err(NameError::TooLong);
        }
        let mut bytes = name.bytes();
        let first = bytes.next().ok_or(NameError::Empty)?;
        let begins = matches!(first, b'a'..=b'z' | b'_');
        if begins && bytes.all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')) {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Character)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a name may not stand in SQL. What was refused is not repeated: it may be hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It has no character.
    #[error("a name in SQL may not be empty")]
    Empty,
    /// It has more than 41 bytes, or the identifier made of it more than 63.
    #[error("a name in SQL may have 41 bytes, and what begins with it 63")]
    TooLong,
    /// It is not `[a-z_][a-z0-9_]*`.
    #[error("a name in SQL begins with a-z or _ and goes on with a-z, 0-9 or _")]
    Character,
    /// SQLite keeps all in one file: tables there have a prefix and no schema.
    #[error("SQLite has no schemas: choose a prefix")]
    NoSchemas,
}

/// Where a pattern's tables are: what their names begin with, and in which schema.
///
/// ```
/// use buttress_store::Tables;
///
/// let tables = Tables::default(); // buttress_outbox, buttress_migrations, …
/// let tables = tables.with_prefix("shop_")?.in_schema("resilience")?;
/// assert_eq!(tables.to_string(), "resilience.shop_");
/// # Ok::<(), buttress_store::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tables {
    schema: Option<Name>,
    prefix: Name,
}

impl Tables {
    /// The same, with names that begin with `prefix`, which is `buttress_` otherwise.
    ///
    /// # Errors
    ///
    /// [`NameError`], when it is no [`Name`].
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, NameError> {
        self.prefix = Name::new(prefix)?;
        Ok(self)
    }

    /// The same, in a schema (PostgreSQL) or a database (MySQL) of that name, which must exist.
    /// Without it the connection's own is used.
    ///
    /// # Errors
    ///
    /// [`NameError`], when it is no [`Name`].
    pub fn in_schema(mut self, schema: &str) -> Result<Self, NameError> {
        self.schema = Some(Name::new(schema)?);
        Ok(self)
    }

    /// What the names begin with.
    #[must_use]
    pub const fn prefix(&self) -> &Name {
        &self.prefix
    }

    /// The schema, if it is not the connection's own.
    #[must_use]
    pub const fn schema(&self) -> Option<&Name> {
        self.schema.as_ref()
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            schema: None,
            prefix: Name("buttress_".into()),
        }
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        self.prefix.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_outside_the_alphabet_is_refused() {
        for (name, error) in [
            ("", NameError::Empty),
            (&*"a".repeat(42), NameError::TooLong),
            ("1a", NameError::Character),
            ("A", NameError::Character),
            ("a-b", NameError::Character),
            ("a b", NameError::Character),
            ("a\0", NameError::Character),
            ("a;DROP TABLE x", NameError::Character),
            ("a\"", NameError::Character),
            ("a`", NameError::Character),
            ("ä", NameError::Character),
            ("a.b", NameError::Character),
        ] {
            assert_eq!(Name::new(name), Err(error), "{name:?}");
        }
        assert!(Name::new(&"a".repeat(41)).is_ok());
        assert!(Name::new("_").is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn ten_thousand_hostile_names_are_refused(
            before in "[a-z_]{0,8}", hostile in "[^a-z0-9_]{1,8}", after in "\\PC{0,8}",
        ) {
            let name = format!("{before}{hostile}{after}");
            prop_assert!(Name::new(&name).is_err());
        }
    }
}
