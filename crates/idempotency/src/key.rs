//! What a record is found by: the caller's key, within a scope that he does not choose.

use std::fmt;

pub use buttress_store::KeyError;
use sha2::{Digest as _, Sha256};

/// An idempotency key, as the caller sent it: 1 to 255 bytes of any value.
///
/// It is data: compared byte by byte, bound and never part of SQL or a script, and not shown by
/// `Debug`, for some are somebody's address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(buttress_store::Key);

impl Key {
    /// The most bytes a key may have.
    pub const LONGEST: usize = buttress_store::Key::LONGEST;

    /// Takes a key. One that is too long is refused and not cut; [`Key::digest_of`] takes any.
    ///
    /// # Errors
    ///
    /// [`KeyError`], when it is empty or has more than 255 bytes.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Ok(Self(buttress_store::Key::new(key)?))
    }

    /// The key that stands for bytes of any length: their SHA-256. For messages that have no id.
    #[must_use]
    pub fn digest_of(bytes: impl AsRef<[u8]>) -> Self {
        let digest = Sha256::digest(bytes.as_ref());
        match buttress_store::Key::new(digest) {
            Ok(key) => Self(key),
            Err(_) => unreachable!("a digest has 32 bytes"),
        }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose keys, and for what: tenant, principal, method, route; or the name of a consumer.
///
/// Two callers may well choose the same key. What the scope is made of is known to the server
/// alone, so that nobody reads another's answer by guessing his key.
///
/// The parts are hashed with their lengths (SHA-256), so `("a:b", "c")` and `("a", "b:c")` are two
/// scopes.
///
/// ```
/// use buttress_idempotency::{Key, Scope};
///
/// let scope = Scope::of(["tenant 7", "alice", "POST", "/orders"]);
/// let key = scope.key(&Key::new("8e03978e-40d5-43e8-bc93-6894a57f9324")?);
/// # let _ = key;
/// # Ok::<(), buttress_idempotency::KeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope([u8; 32]);

impl Scope {
    /// The scope that is made of these parts, in this order.
    pub fn of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"buttress-idempotency scope 1\0");
        for part in parts {
            put(&mut hash, part.as_ref());
        }
        Self(hash.finalize().into())
    }

    /// A key in this scope.
    #[must_use]
    pub fn key(&self, key: &Key) -> ScopedKey {
        let bytes = [&self.0[..], key.as_bytes()].concat();
        match buttress_store::Key::bounded(bytes, ScopedKey::LONGEST) {
            Ok(key) => ScopedKey(key),
            Err(_) => unreachable!("both parts are bounded, and the scope is not empty"),
        }
    }

    /// What it is stored as.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The first half, enough to tell two apart in a log.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scope(")?;
        for byte in &self.0[..8] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…)")
    }
}

/// A key within its scope: what a record is found by. The scope's 32 bytes, then the key's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopedKey(buttress_store::Key);

impl ScopedKey {
    /// The most bytes it may have.
    pub const LONGEST: usize = 32 + Key::LONGEST;

    /// The one that was stored as these bytes, if they are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = buttress_store::Key::bounded(bytes, Self::LONGEST).ok()?;
        (key.len() > 32).then_some(Self(key))
    }

    /// As it is stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The same, as a store takes it.
    #[must_use]
    pub const fn as_key(&self) -> &buttress_store::Key {
        &self.0
    }

    /// The scope.
    ///
    /// # Panics
    ///
    /// Never: 32 bytes of it are the scope.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let scope = self
            .0
            .first_chunk()
            .expect("its first 32 bytes are the scope");
        Scope(*scope)
    }

    /// The caller's key.
    #[must_use]
    pub fn key(&self) -> Key {
        match buttress_store::Key::new(&self.0[32..]) {
            Ok(key) => Key(key),
            Err(_) => unreachable!("what is behind the scope was a key"),
        }
    }

    /// The key to use with somebody else, for one step of this work: 64 hexadecimal digits, the
    /// same each time this work is tried, in whatever process. So a second try of the step is
    /// known to *him* as the second.
    ///
    /// It is made of scope, key and step (SHA-256): two tenants with one key charge twice.
    ///
    /// ```
    /// # use buttress_idempotency::{Key, Scope};
    /// let key = Scope::of(["tenant 7", "POST", "/orders"]).key(&Key::new("abc")?);
    /// assert_eq!(key.derive("charge"), key.derive("charge"));
    /// assert_ne!(key.derive("charge"), key.derive("ship"));
    /// # Ok::<(), buttress_idempotency::KeyError>(())
    /// ```
    #[must_use]
    pub fn derive(&self, step: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(b"buttress-idempotency step 1\0");
        put(&mut hash, &self.0);
        put(&mut hash, step.as_bytes());
        let digest = hash.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for ScopedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedKey").field(&self.scope()).finish()
    }
}

/// With its length before it, so that no two lists of parts are the same bytes.
fn put(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_of_ten_kilobytes_is_refused_and_its_digest_is_not() {
        let long = [b'k'; 10_240];
        assert!(matches!(
            Key::new(long),
            Err(KeyError::TooLong { length: 10_240, .. })
        ));
        assert_eq!(Key::digest_of(long).as_bytes().len(), 32);
        assert_eq!(Key::new(""), Err(KeyError::Empty));
    }

    #[test]
    fn no_key_is_shown() {
        let key = Key::new("somebody@example.org").unwrap();
        let scoped = Scope::of(["tenant"]).key(&key);
        for shown in [format!("{key:?}"), format!("{scoped:?}")] {
            assert!(!shown.contains("somebody"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn different_parts_are_different_scopes(
            one in prop::collection::vec("[a:]{0,3}", 0..4),
            other in prop::collection::vec("[a:]{0,3}", 0..4),
        ) {
            prop_assert_eq!(one == other, Scope::of(&one) == Scope::of(&other));
        }

        #[test]
        fn a_scoped_key_is_taken_apart_as_it_was_put_together(bytes in prop::collection::vec(any::<u8>(), 1..=255)) {
            let (scope, key) = (Scope::of(["x"]), Key::new(bytes).unwrap());
            let scoped = scope.key(&key);
            prop_assert_eq!((scoped.scope(), scoped.key()), (scope, key));
            prop_assert_eq!(ScopedKey::from_bytes(scoped.as_bytes()), Some(scoped));
        }
    }
}
