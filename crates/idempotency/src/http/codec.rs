//! The bytes of a stored response.
//!
//! ```text
//! version 1   1 byte
//! status      2 bytes
//! body        1 byte: 1 when it was kept
//! headers     2 bytes: how many, then of each
//!   name      2 bytes of length, and it
//!   value     4 bytes of length, and it
//! body        the rest
//! ```
//!
//! Numbers are big-endian. A record is read whole or not at all: half of the headers would be
//! another answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::StoredResponse;

const VERSION: u8 = 1;

/// A stored response cannot be read: it was written by a later release, or by something else.
///
/// Whoever gets it must not run the request: the record says that it was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableRecord {
    /// Its first byte is no version that this release knows.
    #[error("the stored response has a version that is not known here")]
    Version,
    /// It is not what was written.
    #[error("the stored response is damaged")]
    Damaged,
}

pub(super) fn encode(response: &StoredResponse) -> Vec<u8> {
    let body = response.body.as_deref().unwrap_or_default();
    let mut record = Vec::with_capacity(64 + body.len());
    record.push(VERSION);
    record.extend(response.status.as_u16().to_be_bytes());
    record.push(u8::from(response.body.is_some()));
    put_headers(&mut record, &response.headers);
    record.extend(body);
    record
}

pub(super) fn put_headers(record: &mut Vec<u8>, headers: &HeaderMap) {
    // A `HeaderMap` has fewer than 2^15 entries, and a server sends no header of 64 KiB name or
    // 4 GiB value; what could not be read again is left out rather than cut.
    let fitting = || {
        headers.iter().filter_map(|(name, value)| {
            let length = u16::try_from(name.as_str().len()).ok()?;
            Some((length, name, u32::try_from(value.len()).ok()?, value))
        })
    };
    let count = u16::try_from(fitting().count()).unwrap_or(u16::MAX);
    record.extend(count.to_be_bytes());
    for (name_length, name, value_length, value) in fitting().take(usize::from(count)) {
        record.extend(name_length.to_be_bytes());
        record.extend(name.as_str().as_bytes());
        record.extend(value_length.to_be_bytes());
        record.extend(value.as_bytes());
    }
}

pub(super) fn decode(record: &[u8]) -> Result<StoredResponse, UnreadableRecord> {
    let (version, rest) = record.split_first().ok_or(UnreadableRecord::Damaged)?;
    if *version != VERSION {
        return Err(UnreadableRecord::Version);
    }
    read(rest).ok_or(UnreadableRecord::Damaged)
}

fn read(mut rest: &[u8]) -> Option<StoredResponse> {
    let status = StatusCode::from_u16(u16::from_be_bytes(take(&mut rest)?)).ok()?;
    let [has_body] = take(&mut rest)?;
    let headers = take_headers(&mut rest)?;
    let body = match (has_body, rest) {
        (1, body) => Some(Bytes::copy_from_slice(body)),
        (0, []) => None,
        _ => return None,
    };
    Some(StoredResponse::new(status, headers, body))
}

pub(super) fn take_headers(rest: &mut &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for _ in 0..u16::from_be_bytes(take(rest)?) {
        let name = u16::from_be_bytes(take(rest)?);
        let name = HeaderName::from_bytes(bytes(rest, name.into())?).ok()?;
        let value = u32::from_be_bytes(take(rest)?);
        let value = HeaderValue::from_bytes(bytes(rest, usize::try_from(value).ok()?)?).ok()?;
        headers.try_append(name, value).ok()?;
    }
    Some(headers)
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

pub(super) fn bytes<'r>(rest: &mut &'r [u8], length: usize) -> Option<&'r [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn responses() -> impl Strategy<Value = StoredResponse> {
        let value = prop::collection::vec(
            prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8],
            0..20,
        );
        let headers = prop::collection::vec(("[a-z][a-z0-9-]{0,9}", value), 0..6);
        let body = prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
        (100_u16..1000, headers, body).prop_map(|(status, headers, body)| {
            let header = |(name, value): (String, Vec<u8>)| {
                (
                    name.parse::<HeaderName>().unwrap(),
                    HeaderValue::from_bytes(&value).unwrap(),
                )
            };
            let mut map = HeaderMap::new();
            for (name, value) in headers.into_iter().map(header) {
                map.append(name, value);
            }
            let status = StatusCode::from_u16(status).unwrap();
            StoredResponse::new(status, map, body.map(Bytes::from))
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(response in responses()) {
            prop_assert_eq!(decode(&encode(&response)), Ok(response));
        }

        #[test]
        fn no_bytes_make_it_panic(
            record in prop::collection::vec(any::<u8>(), 0..100), known in any::<bool>(),
        ) {
            let record = if known { [&[VERSION], &*record].concat() } else { record };
            let _ = decode(&record);
        }

        #[test]
        fn a_damaged_record_is_never_read_as_other_headers(
            response in responses(), at in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let mut record = encode(&response);
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            // Whatever it is read as, it is a whole record again, and not a part of one.
            if let Ok(read) = decode(&record) {
                prop_assert_eq!(encode(&read).len(), record.len());
            }
            let whole = encode(&response);
            let head = whole.len() - response.body.as_ref().map_or(0, Bytes::len);
            prop_assert!(decode(&whole[..at.min(head - 1)]).is_err());
        }
    }

    #[test]
    fn a_record_of_a_later_release_is_told_from_a_damaged_one() {
        assert_eq!(decode(&[]), Err(UnreadableRecord::Damaged));
        assert_eq!(decode(&[2, 0, 200]), Err(UnreadableRecord::Version));
        assert_eq!(decode(&[1, 0, 200]), Err(UnreadableRecord::Damaged));
    }

    #[test]
    fn a_record_does_not_change_from_release_to_release() {
        let headers =
            HeaderMap::from_iter([(http::header::LOCATION, HeaderValue::from_static("/o"))]);
        let response = StoredResponse::new(StatusCode::CREATED, headers, Some("{}".into()));
        assert_eq!(
            encode(&response),
            b"\x01\x00\xc9\x01\x00\x01\x00\x08location\x00\x00\x00\x02/o{}"
        );
    }
}
