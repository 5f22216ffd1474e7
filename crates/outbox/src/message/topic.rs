//! A topic's name.

use std::{fmt, sync::Arc};

use crate::MessageError;

/// A topic: its messages go to one destination. At most 100 of `A-Z a-z 0-9 . _ -`: a name that
/// no broker takes for a wildcard, and no log for a line's end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The most bytes of a name.
    pub const LONGEST: usize = 100;

    /// A topic of that name.
    ///
    /// # Errors
    ///
    /// [`MessageError::Field`], when it cannot be one.
    pub fn new(name: impl AsRef<str>) -> Result<Self, MessageError> {
        let name = name.as_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > Self::LONGEST || !name.bytes().all(allowed) {
            return Err(MessageError::Field {
                field: "topic",
                rule: "1 to 100 of A-Z a-z 0-9 . _ -",
            });
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_injection_is_refused() {
        for name in [
            "",
            ">",
            "a.*",
            "a b",
            "a\r\nb",
            "ä",
            "a/b",
            &"a".repeat(101),
        ] {
            assert!(Topic::new(name).is_err(), "{name:?}");
        }
        assert!(Topic::new("Orders.v1_x-y").is_ok());
    }
}
