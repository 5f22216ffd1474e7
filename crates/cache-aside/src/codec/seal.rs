//! Who made an entry: a code that only those can make who share a secret.

use buttress_store::Key;

use super::Unreadable;

#[cfg(feature = "hmac")]
mod with_hmac {
    use std::{fmt, sync::Arc};

    use hmac::{Hmac, KeyInit as _, Mac};
    use sha2::Sha256;

    use super::{Key, Unreadable};

    /// What stands before all that is sealed, so that no other use of the same secret makes such a code.
    const USE: &[u8] = b"buttress cache entry\0";
    /// As long as what SHA-256 gives.
    const LENGTH: usize = 32;

    /// A secret that the instances of a cache share, to know their own entries; see
    /// [`Framing::sealed`](crate::codec::Framing::sealed).
    ///
    /// Cheap to clone. It is not shown by `Debug`, has no equality, and what is kept of it is wiped from memory when the
    /// last clone is dropped.
    #[derive(Clone)]
    pub struct SealSecret {
        /// The key's two blocks are hashed once, not for each entry.
        keyed: Arc<Hmac<Sha256>>,
    }

    impl SealSecret {
        /// The fewest bytes: as many as the code has (RFC 2104, section 3).
        pub const SHORTEST: usize = LENGTH;

        /// Takes random bytes as they are: from a secret store, not from a person.
        ///
        /// # Errors
        ///
        /// [`SealSecretError`], when there are fewer than 32.
        pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, SealSecretError> {
            let bytes = bytes.as_ref();
            let error = SealSecretError {
                length: bytes.len(),
            };
            if bytes.len() < Self::SHORTEST {
                return Err(error);
            }
            let keyed = Hmac::new_from_slice(bytes).map_err(|_| error)?;
            Ok(Self {
                keyed: Arc::new(keyed),
            })
        }

        fn code(&self, key: &Key, bytes: &[u8]) -> Hmac<Sha256> {
            let mut code = Hmac::clone(&self.keyed);
            let length = u64::try_from(key.len()).unwrap_or(u64::MAX);
            code.update(USE);
            code.update(&length.to_be_bytes());
            code.update(key);
            code.update(bytes);
            code
        }
    }

    /// Shows that there is one, and nothing of it.
    impl fmt::Debug for SealSecret {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("SealSecret").finish_non_exhaustive()
        }
    }

    /// A secret that could be guessed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    #[error("a secret of {length} bytes, of at least 32")]
    #[non_exhaustive]
    pub struct SealSecretError {
        /// How many bytes it has.
        pub length: usize,
    }

    /// The first seals, all of them open. None: nothing is sealed.
    #[derive(Clone, Debug, Default)]
    pub(in crate::codec) struct Seals(Vec<SealSecret>);

    impl Seals {
        pub(in crate::codec) const fn new(secrets: Vec<SealSecret>) -> Self {
            Self(secrets)
        }

        /// Puts the code behind the bytes, if there is a secret.
        pub(in crate::codec) fn seal(&self, key: &Key, out: &mut Vec<u8>) -> bool {
            let Some(secret) = self.0.first() else {
                return false;
            };
            let code = secret.code(key, out).finalize();
            out.extend_from_slice(&code.into_bytes());
            true
        }

        /// The bytes without their code, if there is a secret: theirs must be one of ours.
        pub(in crate::codec) fn open<'b>(
            &self,
            key: &Key,
            bytes: &'b [u8],
        ) -> Option<Result<&'b [u8], Unreadable>> {
            if self.0.is_empty() {
                return None;
            }
            let opened = bytes.split_last_chunk::<LENGTH>().filter(|(framed, told)| {
                // Compared in the same time wherever they differ.
                let is_by = |secret: &SealSecret| {
                    let code = secret.code(key, framed);
                    code.verify_slice(&told[..]).is_ok()
                };
                self.0.iter().any(is_by)
            });
            Some(opened.map(|(framed, _)| framed).ok_or(Unreadable::Forged))
        }
    }
}

#[cfg(feature = "hmac")]
pub use self::with_hmac::{SealSecret, SealSecretError};

#[cfg(feature = "hmac")]
pub(super) use self::with_hmac::Seals;

/// Nothing is sealed.
#[cfg(not(feature = "hmac"))]
#[derive(Clone, Debug, Default)]
pub(super) struct Seals {}

#[cfg(not(feature = "hmac"))]
#[expect(clippy::unused_self, reason = "with the feature, they have secrets")]
impl Seals {
    pub(super) const fn seal(&self, _: &Key, _: &mut Vec<u8>) -> bool {
        false
    }

    pub(super) const fn open<'b>(
        &self,
        _: &Key,
        _: &'b [u8],
    ) -> Option<Result<&'b [u8], Unreadable>> {
        None
    }
}
