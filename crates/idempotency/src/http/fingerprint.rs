//! What a request asked for.

use http::{HeaderMap, HeaderName, Method, Uri, header::CONTENT_TYPE};
use sha2::{Digest, Sha256};

use super::json;
use crate::Fingerprint;

/// How a request's fingerprint is made: what must be the same for two requests with one key to be
/// one request.
///
/// SHA-256 over method, path, query, media type, body, and the headers that are
/// [added](Self::with_header), each with its length, so that nothing can move from one part into
/// the next. A body of JSON (`application/json`, `…+json`) counts in its canonical form
/// (RFC 8785): members may come in any order, and white space does not count. Where that form would
/// lose something (numbers of more than 15 digits, a member that is there twice), and where the
/// body is no JSON, its bytes count.
///
/// All that is version 1. A release that makes fingerprints in another way counts it up, and those
/// of two versions are not compared: a retry finds what the release before did for it.
#[derive(Clone, Debug, Default)]
pub struct FingerprintRule {
    headers: Vec<HeaderName>,
}

impl FingerprintRule {
    /// The version of the fingerprints that this release makes.
    pub const VERSION: u8 = 1;

    /// Method, path, query, media type and body.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            headers: Vec::new(),
        }
    }

    /// The same with the values of this header: `Api-Version`, say, where another version is
    /// another request.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName) -> Self {
        self.headers.push(name);
        self.headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        self.headers.dedup();
        self
    }

    /// Of a body of JSON alone, for a handler whose scope says the rest: another query, or another
    /// media type, is the same request.
    #[must_use]
    pub fn of_json(body: &[u8]) -> Fingerprint {
        let mut hash = Parts(Sha256::new());
        hash.body(Some(b"application/json"), body);
        Fingerprint::new(Self::VERSION, hash.0.finalize().into())
    }

    /// The fingerprint of this request.
    #[must_use]
    pub fn of(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Fingerprint {
        let mut hash = Parts(Sha256::new());
        hash.part(method.as_str().as_bytes());
        hash.part(uri.path().as_bytes());
        hash.optional(uri.query().map(str::as_bytes));
        let media_type = headers
            .get(CONTENT_TYPE)
            .map(|value| essence(value.as_bytes()));
        hash.body(media_type.as_deref(), body);
        for name in &self.headers {
            let values = headers.get_all(name);
            hash.part(name.as_str().as_bytes());
            hash.count(values.iter().count());
            values.iter().for_each(|value| hash.part(value.as_bytes()));
        }
        Fingerprint::new(Self::VERSION, hash.0.finalize().into())
    }
}

struct Parts(Sha256);

impl Parts {
    fn count(&mut self, count: usize) {
        // A length is below 2^64 wherever it came from.
        self.0.update((count as u64).to_be_bytes());
    }

    fn part(&mut self, part: &[u8]) {
        self.count(part.len());
        self.0.update(part);
    }

    fn body(&mut self, media_type: Option<&[u8]>, body: &[u8]) {
        self.optional(media_type);
        let canonical = match media_type {
            Some(media_type) if is_json(media_type) => json::canonical(body),
            _ => None,
        };
        self.optional(canonical.as_deref());
        self.part(canonical.as_ref().map_or(body, |_| &[]));
    }

    fn optional(&mut self, part: Option<&[u8]>) {
        self.0.update([u8::from(part.is_some())]);
        self.part(part.unwrap_or_default());
    }
}

/// The media type without its parameters: `charset` says nothing about JSON.
fn essence(value: &[u8]) -> Vec<u8> {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().to_ascii_lowercase()
}

fn is_json(media_type: &[u8]) -> bool {
    media_type == b"application/json" || media_type.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    struct Asked {
        method: Method,
        uri: &'static str,
        media_type: &'static str,
        body: &'static str,
    }

    const ASKED: Asked = Asked {
        method: Method::POST,
        uri: "/orders?dry=1",
        media_type: "application/json",
        body: r#"{"a":1,"b":2}"#,
    };

    fn of(asked: &Asked) -> [u8; 33] {
        let value = HeaderValue::from_static(asked.media_type);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
        let uri = asked.uri.parse().unwrap();
        let rule = FingerprintRule::new();
        rule.of(&asked.method, &uri, &headers, asked.body.as_bytes())
            .to_bytes()
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint_however_its_json_is_written() {
        for same in [
            Asked {
                body: " {\"b\":2,\"a\":1}",
                ..ASKED
            },
            Asked {
                media_type: "Application/JSON; charset=utf-8",
                ..ASKED
            },
        ] {
            assert_eq!(of(&ASKED), of(&same));
        }
    }

    #[test]
    fn every_part_of_a_request_counts() {
        let all = [
            ASKED,
            Asked {
                method: Method::PATCH,
                ..ASKED
            },
            Asked {
                uri: "/orders",
                ..ASKED
            },
            Asked {
                uri: "/orders?",
                ..ASKED
            },
            Asked {
                uri: "/order?sdry=1",
                ..ASKED
            },
            Asked {
                uri: "/orders?dry=2",
                ..ASKED
            },
            Asked {
                media_type: "application/merge-patch+json",
                ..ASKED
            },
            Asked {
                media_type: "text/plain",
                ..ASKED
            },
            Asked {
                media_type: "text/plain",
                body: " {\"b\":2,\"a\":1}",
                ..ASKED
            },
            Asked {
                body: r#"{"a":1,"b":3}"#,
                ..ASKED
            },
            Asked {
                body: r#"{"a":1,"b":2"#,
                ..ASKED
            },
            Asked { body: "", ..ASKED },
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| of(other) != of(one)), "{at}");
        }
    }

    #[test]
    fn of_json_alone_the_body_counts_as_json() {
        let of = |body: &str| FingerprintRule::of_json(body.as_bytes()).to_bytes();
        assert_eq!(of(ASKED.body), of(" {\"b\":2,\"a\":1}"));
        assert_ne!(of(ASKED.body), of("{\"b\":1,\"a\":1}"));
        assert_ne!(of("{\"a\":1,\"a\":2}"), of("{\"a\":2}"));
    }

    #[test]
    fn chosen_headers_count_and_others_do_not() {
        let rule = FingerprintRule::new().with_header(header::ACCEPT_LANGUAGE);
        let of = |rule: &FingerprintRule, languages: &[&'static str]| {
            let value = |text| (header::ACCEPT_LANGUAGE, HeaderValue::from_static(text));
            let mut headers = HeaderMap::new();
            headers.extend(languages.iter().map(|text| value(*text)));
            rule.of(&Method::POST, &Uri::from_static("/"), &headers, b"")
                .to_bytes()
        };
        let all: [&[_]; 4] = [&[], &[""], &["sv"], &["s", "v"]];
        for (at, one) in all.iter().enumerate() {
            assert!(
                all[..at]
                    .iter()
                    .all(|other| of(&rule, other) != of(&rule, one)),
                "{at}"
            );
            assert_eq!(
                of(&FingerprintRule::new(), one),
                of(&FingerprintRule::new(), &[])
            );
        }
    }

    #[test]
    fn a_fingerprint_does_not_change_from_release_to_release() {
        let hex: String = of(&ASKED)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "01d61c5dbb5c1851099d867ff37dbd35636254d3caa7b4294dd45c4430b0cbbd90"
        );
    }
}
