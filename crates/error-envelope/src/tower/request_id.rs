//! The name of one request, for the caller, the log and the services behind.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// A longer one is not the caller's to choose: it goes into every line of the log.
const LONGEST: usize = 64;

/// The name of one request: the caller's `X-Request-Id` when that is 1 to 64 of `[A-Za-z0-9._-]`,
/// else a new UUID (version 7, so ids sort by time: RFC 9562, section 5.7).
///
/// The layer puts it into the request's extensions and header, into the response's header, and
/// into the span of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    id: Arc<str>,
}

impl RequestId {
    /// The field's name, in requests and responses.
    pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(Self::HEADER).and_then(|id| id.to_str().ok());
        let id = match given.filter(|id| is_acceptable(id)) {
            Some(id) => id.into(),
            None => Uuid::now_v7().hyphenated().to_string().into(),
        };
        Self { id }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let value = HeaderValue::from_str(&self.id)
            .expect("an id is letters, digits, dots, underscores and hyphens");
        headers.insert(Self::HEADER, value);
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

fn is_acceptable(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST).contains(&id.len()) && id.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(RequestId::HEADER, HeaderValue::from_bytes(value).unwrap());
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn the_callers_id_is_kept_when_it_is_1_to_64_of_the_allowed_characters() {
        let longest = "a".repeat(64);
        for id in ["a", "7", "-", "Az09._-", &longest] {
            assert_eq!(of(id.as_bytes()), id);
        }
    }

    #[test]
    fn any_other_id_is_replaced_by_a_new_one() {
        let too_long = "a".repeat(65);
        let hostile: [&[u8]; 8] = [
            b"",
            b" ",
            b"a b",
            b"a,b",
            b"${jndi:ldap://x}",
            b"\xc3\xa4",
            b"a\tb",
            too_long.as_bytes(),
        ];
        for id in hostile {
            let new = of(id);
            assert_eq!(
                Uuid::parse_str(&new).unwrap().get_version_num(),
                7,
                "{id:?}"
            );
        }
    }
}
