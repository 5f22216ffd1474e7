//! The secret by which a service knows its own cursors.

use std::fmt;

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

use super::PagesError;

/// A secret with which cursors are signed: HMAC with SHA-256 (RFC 2104), of which 16 bytes are
/// kept. Wiped when it is dropped, and not printed.
#[derive(Clone)]
pub struct CursorKey {
    keyed: Hmac<Sha256>,
}

impl CursorKey {
    /// A key of these bytes, 16 to 256 of them, best 32 from a generator of secrets. Not a password:
    /// nothing here is slow.
    ///
    /// # Errors
    ///
    /// When they are fewer or more.
    pub fn new(bytes: &[u8]) -> Result<Self, PagesError> {
        let refused = PagesError::new("key", "16 to 256 bytes");
        if !(16..=256).contains(&bytes.len()) {
            return Err(refused);
        }
        let keyed = Hmac::new_from_slice(bytes).map_err(|_| refused)?;
        Ok(Self { keyed })
    }

    pub(super) fn keyed(&self) -> Hmac<Sha256> {
        self.keyed.clone()
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CursorKey").finish_non_exhaustive()
    }
}
