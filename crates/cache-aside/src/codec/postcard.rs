//! Values as postcard's bytes.

use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecError};

/// Values as [postcard](https://postcard.jamesmunns.com) has them: small and fast. It does not describe itself: when a
/// type changes, its schema's version must grow.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Postcard;

impl Postcard {
    /// It.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        postcard::to_stdvec(value).map_err(|cause| CodecError::new("postcard", cause))
    }

    /// Bytes that are left over are an error: it may be another type's.
    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(CodecError::new("postcard", "bytes are left over")),
            Err(cause) => Err(CodecError::new("postcard", cause)),
        }
    }
}
