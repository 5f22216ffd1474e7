//! One endpoint: where to, with which secrets, in which form, and with how much patience.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::Scheme};

use super::fields;
use crate::{PolicyError, webhook::Signer};

/// How a message becomes a request, as CloudEvents' HTTP binding names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// All of the event is in the body, as JSON: `{"specversion", "id", "source", "type", …,
    /// "data"}`. So all of it is signed.
    #[default]
    Structured,
    /// The body is the payload, and the event's attributes are in `ce-` fields. These are **not
    /// signed**: whoever can change the request on its way can change the event's type. For
    /// receivers that cannot do with another body than the payload.
    Binary,
}

/// Who is to blame for a 500, and for every other 5xx that no gateway sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// The endpoint: it is down, and all messages wait.
    #[default]
    Endpoint,
    /// The message: it is counted against it, and the others go on. For receivers that are known to
    /// answer 500 to what they do not understand.
    Message,
}

/// Where webhooks go. Made by [`Endpoint::builder`].
///
/// | what | default |
/// | --- | --- |
/// | scheme | `https`; `http` only if allowed |
/// | form | structured |
/// | time for an answer | 20 s, from the first byte of the connection to the head of the answer |
/// | longest body | 256 KiB |
/// | a 500 is | the endpoint's fault |
#[derive(Clone)]
pub struct Endpoint {
    pub(super) uri: Uri,
    pub(super) signer: Signer,
    pub(super) form: Form,
    pub(super) blame: Blame,
    pub(super) timeout: Duration,
    pub(super) longest_body: usize,
    pub(super) headers: HeaderMap,
}

impl Endpoint {
    /// An endpoint in the making. What is wrong with it is said by
    /// [`build`](EndpointBuilder::build).
    pub fn builder(url: impl AsRef<str>, signer: Signer) -> EndpointBuilder {
        EndpointBuilder {
            url: url.as_ref().to_owned(),
            plain: false,
            headers: Ok(HeaderMap::new()),
            endpoint: Self {
                uri: Uri::default(),
                signer,
                form: Form::default(),
                blame: Blame::default(),
                timeout: EndpointBuilder::DEFAULT_TIMEOUT,
                longest_body: EndpointBuilder::DEFAULT_LONGEST_BODY,
                headers: HeaderMap::new(),
            },
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }
}

/// Shows the host, and neither path nor query: some put secrets there.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &self.uri.host())
            .field("form", &self.form)
            .field("blame", &self.blame)
            .field("timeout", &self.timeout)
            .field("longest_body", &self.longest_body)
            .finish_non_exhaustive()
    }
}

/// An [`Endpoint`] in the making.
#[must_use = "build() makes the endpoint"]
pub struct EndpointBuilder {
    url: String,
    plain: bool,
    headers: Result<HeaderMap, PolicyError>,
    endpoint: Endpoint,
}

impl EndpointBuilder {
    /// 20 seconds. The specification recommends 15 to 30.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
    /// 256 KiB. The specification advises less than 20.
    pub const DEFAULT_LONGEST_BODY: usize = 256 * 1024;

    /// Allows a URL of `http`: what is sent can then be read on its way.
    pub const fn allow_http(mut self) -> Self {
        self.plain = true;
        self
    }

    /// How a message becomes a request.
    pub const fn form(mut self, form: Form) -> Self {
        self.endpoint.form = form;
        self
    }

    /// Who is to blame for a 500.
    pub const fn blame_for_500(mut self, blame: Blame) -> Self {
        self.endpoint.blame = blame;
        self
    }

    /// How long a request may take until the head of its answer is there: 1 ms to 5 min.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.timeout = timeout;
        self
    }

    /// The longest body that is sent, 1 byte to 4 MiB. A message with a longer one is refused for
    /// good.
    pub const fn longest_body(mut self, bytes: usize) -> Self {
        self.endpoint.longest_body = bytes;
        self
    }

    /// A field that each request has, such as `authorization`. Its value is not shown anywhere.
    /// Fields that are made here, such as `content-length` or `webhook-id`, cannot be set.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        if let Ok(headers) = &mut self.headers {
            let name = HeaderName::try_from(name.as_ref())
                .ok()
                .filter(|name| !fields::are_ours(name.as_str()));
            let value = HeaderValue::from_bytes(value.as_ref());
            match (name, value) {
                (Some(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                _ => {
                    self.headers = Err(PolicyError::new(
                        "header",
                        "a field (RFC 9110) that is not made by the publisher itself",
                    ));
                }
            }
        }
        self
    }

    /// The endpoint.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], naming the field and what it may be. The URL is not repeated.
    pub fn build(self) -> Result<Endpoint, PolicyError> {
        let mut endpoint = self.endpoint;
        endpoint.uri = check_url(&self.url, self.plain)?;
        endpoint.headers = self.headers?;
        let patience = Duration::from_millis(1)..=Duration::from_secs(300);
        if !patience.contains(&endpoint.timeout) {
            return Err(PolicyError::new("timeout", "from 1 ms to 5 min"));
        }
        if !(1..=4 << 20).contains(&endpoint.longest_body) {
            return Err(PolicyError::new("longest_body", "from 1 byte to 4 MiB"));
        }
        Ok(endpoint)
    }
}

impl fmt::Debug for EndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointBuilder").finish_non_exhaustive()
    }
}

fn check_url(url: &str, plain: bool) -> Result<Uri, PolicyError> {
    let wrong = |range| Err(PolicyError::new("url", range));
    if url.len() > 2048 {
        return wrong("at most 2048 bytes");
    }
    let Ok(uri) = url.parse::<Uri>() else {
        return wrong("an absolute URL in ASCII");
    };
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if plain => {}
        Some("http") => return wrong("https, unless http is allowed"),
        _ => return wrong("https"),
    }
    let authority = uri.authority().map_or("", |it| it.as_str());
    if authority.contains('@') {
        return wrong("without user and password: give them as a field");
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let has_port = port.is_some_and(|port| !port.ends_with(']'));
    if has_port && uri.port_u16().is_none_or(|port| port == 0) {
        return wrong("with a port from 1 to 65535");
    }
    if uri.host().is_none_or(str::is_empty) {
        return wrong("with a host");
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::Secret;

    fn signer() -> Signer {
        Signer::new([Secret::generate()]).unwrap()
    }

    #[test]
    fn only_urls_of_endpoints_are_taken() {
        for url in [
            "https://example.com",
            "https://example.com:8443/hooks?a=b",
            "https://[2606:4700::1]/",
            "https://[2606:4700::1]:8443/",
            "https://1.1.1.1/",
        ] {
            assert!(Endpoint::builder(url, signer()).build().is_ok(), "{url}");
        }
        let long = format!("https://example.com/{}", "a".repeat(2048));
        for url in [
            "",
            "/hooks",
            "example.com",
            "http://example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "gopher://example.com",
            "unix:/run/docker.sock",
            "https://",
            "https:///hooks",
            "https://user@example.com",
            "https://user:secret@example.com",
            "https://example.com@10.0.0.1/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example.com:/",
            "https://exam ple.com",
            "https://example.com/\r\nx: y",
            "https://žluťoučký.example",
            &long,
        ] {
            let refused = Endpoint::builder(url, signer()).build();
            let error = refused.map(drop).expect_err(url);
            assert_eq!(error.field(), "url", "{url}");
            assert!(!error.to_string().contains("secret"));
        }
        let plain = Endpoint::builder("http://example.com", signer()).allow_http();
        assert!(plain.build().is_ok());
    }

    #[test]
    fn what_cannot_work_does_not_build() {
        let base = || Endpoint::builder("https://example.com/canary?canary", signer());
        for (builder, field) in [
            (base().timeout(Duration::ZERO), "timeout"),
            (base().timeout(Duration::MAX), "timeout"),
            (base().longest_body(0), "longest_body"),
            (base().longest_body(usize::MAX), "longest_body"),
            (base().header("content-length", "1"), "header"),
            (base().header("Webhook-Id", "1"), "header"),
            (base().header("host", "x"), "header"),
            (base().header("a b", "1"), "header"),
            (base().header("x-a", "1\r\nx-b: 2"), "header"),
        ] {
            assert_eq!(builder.build().map(drop).unwrap_err().field(), field);
        }
        let endpoint = base().header("authorization", "canary").build().unwrap();
        let shown = format!("{endpoint:?} {:?} {:?}", endpoint.headers, base());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
