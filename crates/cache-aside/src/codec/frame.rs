//! The frame around a value, byte by byte.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `BCAE` |
//! | 1 | format: 1 |
//! | 1 | flags: 1 compressed, 2 has an entity tag, 4 is known not to exist |
//! | 1 | codec |
//! | 1 + n, 4 | schema: name, version |
//! | 8, 8 | stamp: epoch, sequence |
//! | 8 × 4 | fresh, to be served while loaded anew, instead of an error, the load's duration: in milliseconds |
//! | 4 | weight |
//! | 1, each 2 + n | tags |
//! | 2 + n | entity tag, if it has one |
//! | 4 | length of the value, uncompressed |
//! | n | the value |
//! | 8 or 32 | XXH3, or where there is a secret HMAC-SHA-256, over all before it, and over the key |
//!
//! Numbers are big-endian. The checksum finds damage, not malice: without a secret, whoever may write to the store is
//! trusted with what it holds.

use std::time::Duration;

use buttress_store::Key;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Entry, Schema, Unreadable, reader::Reader, seal::Seals};
use crate::store::Stamp;

const MAGIC: &[u8; 4] = b"BCAE";
const FORMAT: u8 = 1;
const SUM: usize = 8;

const COMPRESSED: u8 = 1;
const ETAG: u8 = 2;
const ABSENT: u8 = 4;

/// A value's bytes as they are in a frame.
pub(super) struct Body<'b> {
    pub(super) compressed: bool,
    /// How long the value is once it is whole.
    pub(super) length: usize,
    pub(super) bytes: &'b [u8],
}

pub(super) fn write<V>(
    key: &Key,
    codec: u8,
    schema: &Schema,
    entry: &Entry<V>,
    body: &Body<'_>,
    seals: &Seals,
) -> Vec<u8> {
    // What does not fit into two bytes is no entity tag that a field could hold.
    let etag = entry
        .etag
        .as_ref()
        .filter(|it| it.len() <= usize::from(u16::MAX));
    let flags = if body.compressed { COMPRESSED } else { 0 }
        | if etag.is_some() { ETAG } else { 0 }
        | if entry.value.is_none() { ABSENT } else { 0 };
    let mut out = Vec::with_capacity(128 + body.bytes.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[FORMAT, flags, codec]);
    out.push(length(&schema.name));
    out.extend_from_slice(&schema.name);
    out.extend_from_slice(&schema.version.to_be_bytes());
    out.extend_from_slice(&entry.stamp.epoch.to_be_bytes());
    out.extend_from_slice(&entry.stamp.sequence.to_be_bytes());
    for time in [entry.fresh, entry.revalidate, entry.error, entry.took] {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        out.extend_from_slice(&millis.to_be_bytes());
    }
    out.extend_from_slice(&entry.weight.to_be_bytes());
    out.push(length(&entry.tags));
    for tag in &entry.tags {
        sized(&mut out, tag);
    }
    if let Some(etag) = etag {
        sized(&mut out, etag.as_bytes());
    }
    let whole = u32::try_from(body.length).unwrap_or(u32::MAX);
    out.extend_from_slice(&whole.to_be_bytes());
    out.extend_from_slice(body.bytes);
    if !seals.seal(key, &mut out) {
        let sum = sum(key, &out);
        out.extend_from_slice(&sum.to_be_bytes());
    }
    out
}

pub(super) fn read<'b>(
    key: &Key,
    codec: u8,
    schema: &Schema,
    bytes: &'b [u8],
    seals: &Seals,
) -> Result<(Entry<()>, Body<'b>), Unreadable> {
    let foreign = bytes.get(..4).is_none_or(|it| it != MAGIC);
    if foreign {
        return Err(Unreadable::Foreign);
    }
    if bytes.get(4) != Some(&FORMAT) {
        return Err(Unreadable::Format);
    }
    let framed = match seals.open(key, bytes) {
        Some(opened) => opened?,
        None => summed(key, bytes).ok_or(Unreadable::Damaged)?,
    };
    let mut reader = Reader::new(framed.get(5..).unwrap_or_default());
    let parsed = parse(&mut reader, codec, schema);
    parsed.ok_or(Unreadable::Damaged)?
}

/// `None` where bytes are missing.
fn parse<'b>(
    reader: &mut Reader<'b>,
    codec: u8,
    schema: &Schema,
) -> Option<Result<(Entry<()>, Body<'b>), Unreadable>> {
    let [flags, by] = reader.array()?;
    let name_length = usize::from(reader.u8()?);
    let name = reader.take(name_length)?;
    let version = reader.u32()?;
    if by != codec || name != &*schema.name || version != schema.version {
        return Some(Err(Unreadable::Schema));
    }
    let stamp = Stamp {
        epoch: reader.u64()?,
        sequence: reader.u64()?,
    };
    let mut time = || reader.u64().map(Duration::from_millis);
    let (fresh, revalidate, error, took) = (time()?, time()?, time()?, time()?);
    let weight = reader.u32()?;
    let count = usize::from(reader.u8()?);
    let mut tags = Vec::with_capacity(count.min(reader.left()));
    for _ in 0..count {
        let tag = reader.sized()?;
        tags.push(Key::bounded(tag, usize::from(u16::MAX)).ok()?);
    }
    let etag = match flags & ETAG {
        0 => None,
        _ => Some(String::from_utf8(reader.sized()?.to_vec()).ok()?),
    };
    let length = usize::try_from(reader.u32()?).ok()?;
    let compressed = flags & COMPRESSED != 0;
    let bytes = reader.rest();
    if !compressed && bytes.len() != length {
        return None;
    }
    let entry = Entry {
        value: (flags & ABSENT == 0).then_some(()),
        tags,
        etag,
        stamp,
        fresh,
        revalidate,
        error,
        took,
        weight,
    };
    let body = Body {
        compressed,
        length,
        bytes,
    };
    Some(Ok((entry, body)))
}

/// The bytes without their checksum, if it is theirs.
fn summed<'b>(key: &Key, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let (framed, told) = bytes.split_last_chunk::<SUM>()?;
    (sum(key, framed) == u64::from_be_bytes(*told)).then_some(framed)
}

fn sum(key: &Key, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, xxh3_64(key))
}

/// Names have at most 64 bytes, entries at most 64 tags.
fn length<T>(of: &[T]) -> u8 {
    u8::try_from(of.len()).unwrap_or(u8::MAX)
}

/// Tags are keys, of bounded length; longer ones are refused where they are made.
fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::from(length)]);
}
