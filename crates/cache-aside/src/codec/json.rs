//! Values as JSON.

use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecError};

/// Values as JSON: readable with any tool, and tolerant of fields that were added. Map keys must be strings.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Json;

impl Json {
    /// It.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(value).map_err(|cause| CodecError::new("JSON", cause))
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(|cause| CodecError::new("JSON", cause))
    }
}
