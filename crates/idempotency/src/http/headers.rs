//! Which of a response's headers a replay has again.

use http::{
    HeaderMap, HeaderName,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, DATE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
        SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

/// Which of a response's headers are kept, and so replayed.
///
/// By default all, but for those that speak of this one message or this one caller. Never kept:
/// those of the connection (RFC 9110, section 7.6.1, and whatever `Connection` names), `Date`,
/// `Content-Length` (the replay has its own) and `Authorization`. `Set-Cookie` is kept only when
/// [asked for](Self::with_set_cookie): it is a session that a replay would hand out again.
#[derive(Clone, Debug, Default)]
pub struct ReplayedHeaders {
    only: Option<Vec<HeaderName>>,
    never: Vec<HeaderName>,
    set_cookie: bool,
}

impl ReplayedHeaders {
    /// All but those named above.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            only: None,
            never: Vec::new(),
            set_cookie: false,
        }
    }

    /// These, and of them those that may be kept.
    #[must_use]
    pub fn only(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self {
            only: Some(names.into_iter().collect()),
            ..Self::all()
        }
    }

    /// The same without this one.
    #[must_use]
    pub fn without(mut self, name: HeaderName) -> Self {
        self.never.push(name);
        self
    }

    /// The same with `Set-Cookie`.
    #[must_use]
    pub const fn with_set_cookie(mut self) -> Self {
        self.set_cookie = true;
        self
    }

    /// Those of `headers` that are kept, in their order.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            if self.keeps(name) && !is_named(headers, name) {
                kept.append(name, value.clone());
            }
        }
        kept
    }

    fn keeps(&self, name: &HeaderName) -> bool {
        if name == SET_COOKIE && !self.set_cookie {
            return false;
        }
        // `only` names what is wanted beside a cookie that was asked for by its own method.
        let wanted = self
            .only
            .as_ref()
            .is_none_or(|only| only.contains(name) || name == SET_COOKIE);
        wanted && !self.never.contains(name) && !is_of_one_message(name)
    }
}

fn is_of_one_message(name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 10] = [
        AUTHORIZATION,
        CONNECTION,
        CONTENT_LENGTH,
        DATE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    NEVER.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Whether `Connection` says that this header is of the connection.
fn is_named(headers: &HeaderMap, name: &HeaderName) -> bool {
    let mut named = headers.get_all(CONNECTION).iter();
    named.any(|value| {
        let mut options = value.as_bytes().split(|byte| *byte == b',');
        options.any(|option| {
            option
                .trim_ascii()
                .eq_ignore_ascii_case(name.as_str().as_bytes())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(rule: &ReplayedHeaders) -> Vec<String> {
        let all = [
            ("location", "/orders/7"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("set-cookie", "session=1"),
            ("set-cookie", "theme=dark"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("content-length", "9"),
            ("authorization", "secret"),
            ("connection", "X-Hop, close"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("proxy-authenticate", "x"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name, http::HeaderValue::from_static(value));
        }
        let kept = rule.of(&headers);
        kept.iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn what_speaks_of_one_message_or_one_caller_is_not_kept() {
        let all = kept(&ReplayedHeaders::all());
        assert_eq!(all, ["location: /orders/7", "x-twice: 1", "x-twice: 2"]);
    }

    #[test]
    fn a_cookie_is_kept_when_it_is_asked_for_each_on_its_own_line() {
        let only = ReplayedHeaders::only([http::header::LOCATION]).with_set_cookie();
        let expected = [
            "location: /orders/7",
            "set-cookie: session=1",
            "set-cookie: theme=dark",
        ];
        assert_eq!(kept(&only), expected);
        let cookie = ReplayedHeaders::only([SET_COOKIE]);
        assert!(
            kept(&cookie).is_empty(),
            "named among others it is not asked for"
        );
    }

    #[test]
    fn nothing_chosen_brings_back_what_is_never_kept() {
        let only = ReplayedHeaders::only([DATE, CONNECTION, AUTHORIZATION]);
        assert!(kept(&only).is_empty());
        let without = ReplayedHeaders::all().without(http::header::LOCATION);
        assert_eq!(kept(&without), ["x-twice: 1", "x-twice: 2"]);
    }
}
