//! Keys: bytes of a bounded length, stored and compared as bytes.

use std::{fmt, ops::Deref};

/// A key as a store keeps it: at least one byte, at most [`Key::LONGEST`] unless another bound is
/// chosen.
///
/// A column of keys is BYTEA, VARBINARY or BLOB: MySQL's text takes `Abc`, `abc` and `Abc ` for
/// one. A key is data: it is bound, never part of SQL, a script or a metric's label. `Debug`
/// shows its length only, for a key may be somebody's address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

impl Key {
    /// The most bytes of a key, unless another bound is chosen.
    pub const LONGEST: usize = 255;

    /// Takes a key of at most [`Key::LONGEST`] bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError`], when it is empty or too long. Nothing is cut silently.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Self::bounded(key, Self::LONGEST)
    }

    /// Takes a key of at most `longest` bytes. The length is looked at before anything is copied.
    ///
    /// # Errors
    ///
    /// [`KeyError`], when it is empty or too long.
    pub fn bounded(key: impl AsRef<[u8]>, longest: usize) -> Result<Self, KeyError> {
        match key.as_ref() {
            [] => Err(KeyError::Empty),
            key if key.len() > longest => Err(KeyError::TooLong {
                length: key.len(),
                longest,
            }),
            key => Ok(Self(key.into())),
        }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// Why bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no byte.
    #[error("a key may not be empty")]
    Empty,
    /// There are too many.
    #[error("a key has {length} bytes, of at most {longest}")]
    TooLong {
        /// How many it has.
        length: usize,
        /// How many it may have.
        longest: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_between_one_and_255_bytes_of_any_value() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert!(Key::new([0; 255]).is_ok());
        let error = Key::new([0; 256]).unwrap_err();
        assert_eq!(error.to_string(), "a key has 256 bytes, of at most 255");
        assert!(Key::bounded([0xff; 256], 256).is_ok());
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = Key::new("somebody@example.org").unwrap();
        assert_eq!(format!("{key:?}"), "Key(20 bytes)");
    }
}
