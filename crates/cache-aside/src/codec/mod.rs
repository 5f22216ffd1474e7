//! Entries as the second level keeps them: a value by serde, in a frame that says what it is.

mod compress;
mod frame;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "postcard")]
mod postcard;
mod reader;
mod seal;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use buttress_store::Key;

#[cfg(feature = "json")]
pub use self::json::Json;
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
pub(crate) use self::reader::Reader;
use self::seal::Seals;
#[cfg(feature = "hmac")]
pub use self::seal::{SealSecret, SealSecretError};
use crate::store::Stamp;

/// How values become bytes. The frame around them is not its business.
pub trait Codec<V>: fmt::Debug + Send + Sync {
    /// A number that tells it from others: entries of another codec are missed. Ours have 1 and 2; take 128 or
    /// above for your own.
    fn id(&self) -> u8;

    /// The value as bytes.
    ///
    /// # Errors
    ///
    /// What the format says. The value is returned to its caller, and not stored.
    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError>;

    /// The value that these bytes are. They may be anybody's.
    ///
    /// # Errors
    ///
    /// What the format says. The entry is missed.
    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError>;
}

/// A value that a format cannot hold, or bytes that are none. Its source may repeat a value: it is not shown.
#[derive(thiserror::Error)]
#[error("the {format} codec could not read or write a value")]
pub struct CodecError {
    format: &'static str,
    cause: Box<dyn Error + Send + Sync>,
}

impl CodecError {
    /// What a format said.
    #[must_use]
    pub fn new(format: &'static str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            format,
            cause: cause.into(),
        }
    }

    /// What the format said. It may repeat a part of a value: do not log it.
    #[must_use]
    pub fn cause(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.cause
    }
}

impl fmt::Debug for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodecError")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// An entry: what a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what a frame is made of")]
pub struct Entry<V> {
    /// The value; `None` for one that is known not to exist.
    pub value: Option<V>,
    /// Its tags.
    pub tags: Vec<Key>,
    /// Its entity tag, or what else its source knows it by.
    pub etag: Option<String>,
    /// When it was made, as the store counts.
    pub stamp: Stamp,
    /// For how long it was fresh when it was made.
    pub fresh: Duration,
    /// For how long after that it may be served while it is loaded anew.
    pub revalidate: Duration,
    /// For how long after that it may be served instead of an error.
    pub error: Duration,
    /// How long its load took.
    pub took: Duration,
    /// What it takes of a first level's capacity.
    pub weight: u32,
}

/// Puts entries into frames, and takes them out of frames that are not trusted.
pub struct Framing<V> {
    codec: Arc<dyn Codec<V>>,
    schema: Schema,
    longest: usize,
    compress_above: Option<usize>,
    seals: Seals,
}

/// What values are: a name, and a version that grows when old bytes mean something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    name: Box<[u8]>,
    version: u32,
}

impl Schema {
    /// The most bytes of a name.
    pub const LONGEST: usize = 64;

    /// A schema. Two that differ in either never read each other's entries.
    ///
    /// # Errors
    ///
    /// [`SchemaError`], when the name has more than 64 bytes.
    pub fn new(name: &str, version: u32) -> Result<Self, SchemaError> {
        if name.len() > Self::LONGEST {
            return Err(SchemaError { length: name.len() });
        }
        Ok(Self {
            name: name.as_bytes().into(),
            version,
        })
    }
}

/// A schema whose name is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema: a name of {length} bytes, of at most 64")]
#[non_exhaustive]
pub struct SchemaError {
    /// How many bytes it has.
    pub length: usize,
}

impl<V> Framing<V> {
    /// Entries above this size are not stored: one mebibyte, unless another bound is chosen.
    pub const LONGEST: usize = 1 << 20;
    /// What may be chosen at most.
    pub const LONGEST_ALLOWED: usize = 64 << 20;
    /// The most tags of an entry.
    pub const TAGS: usize = 64;

    /// Frames around values of this codec and schema.
    #[must_use]
    pub fn new(codec: impl Codec<V> + 'static, schema: Schema) -> Self {
        Self {
            codec: Arc::new(codec),
            schema,
            longest: Self::LONGEST,
            compress_above: None,
            seals: Seals::default(),
        }
    }

    /// The same with another bound on the bytes of a value, before and after compression, up to 64 MiB: more is
    /// taken for that.
    #[must_use]
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes.clamp(1, Self::LONGEST_ALLOWED);
        self
    }

    /// The same, which compresses values of more than so many bytes, where that makes them smaller.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = Some(bytes);
        self
    }

    /// The same, whose entries carry an HMAC-SHA-256 (RFC 2104) instead of a checksum: over the entry, and over the key and
    /// the cache that it belongs to. What was made without one of these secrets, or for another key, is missed
    /// ([`Unreadable::Forged`]), so that nobody who may only write to the store can make values of his own.
    ///
    /// The cache is known by its name; the store's prefix is not in it. Caches that share a secret, and differ by the prefix
    /// alone (one for each tenant, say), read each other's entries where somebody moves them: give each a name or a
    /// secret of its own.
    ///
    /// What he can do still: remove entries, and put an entry of before back under its own key, where it may look younger
    /// than it is; and read them all, for nothing is encrypted.
    ///
    /// `secret` seals; entries that `older` have sealed are read as well. To change a secret, add the new one to `older` in
    /// all instances first, then make it the one that seals, and drop the other after the longest life of an entry.
    #[cfg(feature = "hmac")]
    #[must_use]
    pub fn sealed(
        mut self,
        secret: SealSecret,
        older: impl IntoIterator<Item = SealSecret>,
    ) -> Self {
        let secrets = std::iter::once(secret).chain(older);
        self.seals = Seals::new(secrets.collect());
        self
    }

    /// The entry of this key as bytes. The key is not in it, but bytes that come back under another key are not
    /// read.
    ///
    /// # Errors
    ///
    /// [`Unwritable`]: the value is for its caller alone.
    pub fn encode(&self, key: &Key, entry: &Entry<&V>) -> Result<Vec<u8>, Unwritable> {
        let value = match entry.value {
            Some(value) => self.codec.encode(value).map_err(Unwritable::Codec)?,
            None => Vec::new(),
        };
        if value.len() > self.longest {
            return Err(Unwritable::TooLarge {
                length: value.len(),
                longest: self.longest,
            });
        }
        if entry.tags.len() > Self::TAGS {
            return Err(Unwritable::TooManyTags {
                tags: entry.tags.len(),
            });
        }
        let small = match self.compress_above {
            Some(above) if value.len() > above => compress::smaller(&value),
            _ => None,
        };
        let body = frame::Body {
            compressed: small.is_some(),
            length: value.len(),
            bytes: small.as_deref().unwrap_or(&value),
        };
        Ok(frame::write(
            key,
            self.codec.id(),
            &self.schema,
            entry,
            &body,
            &self.seals,
        ))
    }

    /// The entry of this key that these bytes are. They may be anybody's: nothing is believed, and no more is
    /// allocated than an entry may have.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]: the entry is missed.
    pub fn decode(&self, key: &Key, bytes: &[u8]) -> Result<Entry<V>, Unreadable> {
        let (entry, body) = frame::read(key, self.codec.id(), &self.schema, bytes, &self.seals)?;
        if body.length > self.longest {
            return Err(Unreadable::TooLarge);
        }
        let value = match (entry.value, body.compressed) {
            (None, _) => None,
            (Some(()), false) => Some(self.codec.decode(body.bytes)),
            (Some(()), true) => {
                let whole = compress::whole(body.bytes, body.length).ok_or(Unreadable::Damaged)?;
                Some(self.codec.decode(&whole))
            }
        };
        let value = value.transpose().map_err(|_| Unreadable::Value)?;
        Ok(Entry {
            value,
            tags: entry.tags,
            etag: entry.etag,
            stamp: entry.stamp,
            fresh: entry.fresh,
            revalidate: entry.revalidate,
            error: entry.error,
            took: entry.took,
            weight: entry.weight,
        })
    }
}

impl<V> Clone for Framing<V> {
    fn clone(&self) -> Self {
        Self {
            codec: Arc::clone(&self.codec),
            schema: self.schema.clone(),
            seals: self.seals.clone(),
            ..*self
        }
    }
}

impl<V> fmt::Debug for Framing<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framing")
            .field("codec", &self.codec)
            .field("schema", &self.schema)
            .field("longest", &self.longest)
            .field("compress_above", &self.compress_above)
            .field("seals", &self.seals)
            .finish()
    }
}

/// Why an entry is not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unwritable {
    /// It is too large.
    #[error("a value of {length} bytes, of at most {longest}: it is not stored")]
    TooLarge {
        /// How many bytes the value has.
        length: usize,
        /// How many it may have.
        longest: usize,
    },
    /// It has too many tags.
    #[error("an entry of {tags} tags, of at most 64: it is not stored")]
    TooManyTags {
        /// How many it has.
        tags: usize,
    },
    /// The format cannot hold it.
    #[error("a value that its codec cannot write is not stored")]
    Codec(#[source] CodecError),
}

/// Why bytes are no entry: a miss, and an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// They are not one of ours.
    #[error("these bytes are no entry")]
    Foreign,
    /// They are of another format: of another version of this crate.
    #[error("the entry is of another format")]
    Format,
    /// Some are missing or changed, or they belong to another key.
    #[error("the entry is damaged, or of another key")]
    Damaged,
    /// They were not made by who has a secret that is known here, or not for this key.
    #[error("the entry is sealed by nobody who is known")]
    Forged,
    /// They are of another schema or codec.
    #[error("the entry is of another schema or codec")]
    Schema,
    /// There are too many, or would be once they were whole.
    #[error("the entry is too large")]
    TooLarge,
    /// The codec cannot read the value.
    #[error("the value cannot be decoded")]
    Value,
}
