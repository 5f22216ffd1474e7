//! What a cursor is: a version, the key of a row, and a code over both and the list they are of.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{CursorKey, PageError};

/// No cursor is longer than this; one that is, is refused unread.
pub const MAX_CURSOR: usize = 720;

/// The key of a row, as JSON, is at most so long.
const MAX_ROW_KEY: usize = 512;

/// The form of what is inside. Another one has another number, so that no cursor is read as
/// something that it is not.
const VERSION: u8 = 1;

/// Enough of an HMAC that none can be guessed, and of a hash that none is hit by accident.
const CODE: usize = 16;
const CHECKSUM: usize = 8;

/// The list and the filter that a cursor belongs to, hashed. They are not in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding([u8; 32]);

impl Binding {
    pub(super) fn of(list: &str) -> Self {
        Self::hash(b"list", &[list.as_bytes()])
    }

    /// The same list, filtered so.
    pub(super) fn within(self, filter: &impl Serialize) -> Result<Self, PageError> {
        let filter = written(filter)?;
        Ok(Self::hash(b"filter", &[&self.0, &filter]))
    }

    fn hash(kind: &[u8], parts: &[&[u8]]) -> Self {
        let hash = Sha256::new()
            .chain_update(b"buttress page ")
            .chain_update(kind);
        let hash = parts.iter().fold(hash, |hash, part| {
            // With their lengths, so that no two lists of parts are one text.
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hash.chain_update(length.to_be_bytes()).chain_update(part)
        });
        Self(hash.finalize().into())
    }
}

/// How cursors are known again.
#[derive(Debug)]
pub(super) enum Check {
    /// By a checksum that anybody can make.
    Checksum,
    /// By the key that signs, or one that is believed too.
    Keys {
        signing: CursorKey,
        believed: Vec<CursorKey>,
    },
}

impl Check {
    /// The cursor that leads behind the row with this key.
    pub(super) fn issue(
        &self,
        binding: Binding,
        key: &impl Serialize,
    ) -> Result<String, PageError> {
        let key = written(key)?;
        if key.len() > MAX_ROW_KEY {
            let told = format!("the key of a row is {} bytes of JSON", key.len());
            return Err(PageError::Unwritable(told.into()));
        }
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&key);
        match self {
            Self::Keys { signing, .. } => {
                let code = code(signing, binding, &bytes).finalize().into_bytes();
                bytes.extend(code.into_iter().take(CODE));
            }
            Self::Checksum => {
                let checksum = checksum(binding, &bytes);
                bytes.extend_from_slice(&checksum);
            }
        }
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The key of the row behind which the page begins; `None` if the cursor is none of ours.
    pub(super) fn read<K: DeserializeOwned>(&self, binding: Binding, cursor: &str) -> Option<K> {
        if cursor.len() > MAX_CURSOR {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let content = match self {
            Self::Keys { signing, believed } => {
                let (content, given) = bytes.split_last_chunk::<CODE>()?;
                // In constant time for each key; how many there are is no secret.
                let is_right = |key| {
                    code(key, binding, content)
                        .verify_truncated_left(given)
                        .is_ok()
                };
                [signing]
                    .into_iter()
                    .chain(believed)
                    .any(is_right)
                    .then_some(content)?
            }
            Self::Checksum => {
                let (content, given) = bytes.split_last_chunk::<CHECKSUM>()?;
                (checksum(binding, content) == *given).then_some(content)?
            }
        };
        serde_json::from_slice(content.strip_prefix(&[VERSION])?).ok()
    }
}

fn code(key: &CursorKey, binding: Binding, content: &[u8]) -> Hmac<Sha256> {
    key.keyed().chain_update(binding.0).chain_update(content)
}

fn checksum(binding: Binding, content: &[u8]) -> [u8; CHECKSUM] {
    let hash = Sha256::new().chain_update(binding.0).chain_update(content);
    let hash = hash.finalize();
    std::array::from_fn(|at| hash[at])
}

fn written(value: &impl Serialize) -> Result<Vec<u8>, PageError> {
    serde_json::to_vec(value).map_err(|error| PageError::Unwritable(error.into()))
}
