//! The bytes of a request that is kept with its key.
//!
//! ```text
//! version     4 bytes: the program's, as it was told
//! method      2 bytes of length, and it
//! target      2 bytes of length, and it: path and query
//! headers     as in a stored response
//! caller      1 byte: 1 when something was kept of him; then 4 bytes of length, and it
//! body        the rest
//! ```
//!
//! Numbers are big-endian. What the bytes as a whole are in (open or sealed, and in which form) is
//! said by a byte before them, which is not read here.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::codec::{bytes, put_headers, take, take_headers};

/// A request that is kept with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptRequest {
    pub(crate) version: u32,
    pub(crate) method: Method,
    pub(crate) target: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) caller: Option<Bytes>,
    pub(crate) body: Bytes,
}

impl KeptRequest {
    /// `None`, when a part of it is longer than its length can say.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let (method, target) = (self.method.as_str(), self.target.path_and_query());
        let target = target.map_or("/", |it| it.as_str());
        // An absolute target may have no path, and is kept without what stood before it.
        let target = match target.starts_with('?') {
            true => Cow::Owned(["/", target].concat()),
            false => Cow::Borrowed(target),
        };
        let mut record = Vec::with_capacity(128 + self.body.len());
        record.extend(self.version.to_be_bytes());
        for part in [method, &target] {
            record.extend(u16::try_from(part.len()).ok()?.to_be_bytes());
            record.extend(part.as_bytes());
        }
        put_headers(&mut record, &self.headers);
        record.push(u8::from(self.caller.is_some()));
        if let Some(caller) = &self.caller {
            record.extend(u32::try_from(caller.len()).ok()?.to_be_bytes());
            record.extend(&caller[..]);
        }
        record.extend(&self.body[..]);
        Some(record)
    }

    /// `None`, when that is not what was written.
    pub(crate) fn decode(mut rest: &[u8]) -> Option<Self> {
        let version = u32::from_be_bytes(take(&mut rest)?);
        let method = u16::from_be_bytes(take(&mut rest)?);
        let method = Method::from_bytes(bytes(&mut rest, method.into())?).ok()?;
        let target = u16::from_be_bytes(take(&mut rest)?);
        let target = Uri::try_from(bytes(&mut rest, target.into())?).ok()?;
        let headers = take_headers(&mut rest)?;
        let caller = match take(&mut rest)? {
            [0] => None,
            [1] => {
                let length = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok()?;
                Some(Bytes::copy_from_slice(bytes(&mut rest, length)?))
            }
            _ => return None,
        };
        Some(Self {
            version,
            method,
            target,
            headers,
            caller,
            body: Bytes::copy_from_slice(rest),
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn requests() -> impl Strategy<Value = KeptRequest> {
        let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
        let target = "/[a-z/%0-9]{0,20}(\\?[a-z=&]{0,10})?";
        let method = prop_oneof![Just(Method::POST), Just(Method::PATCH)];
        let header = ("[a-z][a-z0-9-]{0,9}", "[ -~]{0,20}");
        let headers = prop::collection::vec(header, 0..5);
        let caller = prop::option::of(bytes(40));
        (any::<u32>(), method, target, headers, caller, bytes(200)).prop_map(
            |(version, method, target, headers, caller, body)| KeptRequest {
                version,
                method,
                target: target.parse().unwrap_or_default(),
                headers: headers
                    .into_iter()
                    .map(|(name, value)| {
                        let value = HeaderValue::from_str(value.trim()).unwrap();
                        (name.parse().unwrap(), value)
                    })
                    .collect(),
                caller: caller.map(Bytes::from),
                body: body.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_kept_request_is_read_as_it_was_written(request in requests()) {
            let written = request.encode().unwrap();
            prop_assert_eq!(KeptRequest::decode(&written), Some(request));
        }

        #[test]
        fn no_bytes_of_a_kept_request_make_it_panic(
            record in prop::collection::vec(any::<u8>(), 0..100),
            request in requests(),
            cut in any::<prop::sample::Index>(),
        ) {
            let _ = KeptRequest::decode(&record);
            let written = request.encode().unwrap();
            let head = written.len() - request.body.len();
            prop_assert_eq!(KeptRequest::decode(&written[..cut.index(head)]), None);
        }
    }

    #[test]
    fn every_form_of_a_target_is_read_again() {
        for (asked, kept) in [
            ("/o?a=1", "/o?a=1"),
            ("//o/1", "//o/1"),
            ("*", "*"),
            ("http://shop", "/"),
            ("http://shop/o", "/o"),
            ("http://shop?a=1", "/?a=1"),
            ("http://shop?", "/?"),
        ] {
            let request = KeptRequest {
                version: 0,
                method: Method::POST,
                target: asked.parse().unwrap(),
                headers: HeaderMap::new(),
                caller: None,
                body: Bytes::new(),
            };
            let read = KeptRequest::decode(&request.encode().unwrap());
            assert_eq!(read.unwrap().target, kept, "{asked}");
        }
    }

    #[test]
    fn a_kept_request_does_not_change_from_release_to_release() {
        let request = KeptRequest {
            version: 3,
            method: Method::POST,
            target: Uri::from_static("/o?a=1"),
            headers: HeaderMap::from_iter([(
                http::header::ACCEPT,
                HeaderValue::from_static("*/*"),
            )]),
            caller: Some("ann".into()),
            body: "{}".into(),
        };
        assert_eq!(
            request.encode().unwrap(),
            b"\0\0\0\x03\0\x04POST\0\x06/o?a=1\0\x01\0\x06accept\0\0\0\x03*/*\x01\0\0\0\x03ann{}"
        );
    }
}
