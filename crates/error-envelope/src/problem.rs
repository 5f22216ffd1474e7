//! What leaves the service when something went wrong.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use buttress_core::RetryAfter;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::{FieldError, RpcCode, preset};

/// Members that a problem has of its own (RFC 9457, section 3.1, and ours); no extension may take
/// their place.
const RESERVED: [&str; 10] = [
    "type",
    "title",
    "status",
    "detail",
    "instance",
    "code",
    "errors",
    "retryable",
    "debug",
    "truncated",
];

/// `http::HeaderMap` panics when it is full; nobody needs as many as this.
const MAX_HEADERS: usize = 64;

/// What leaves the service when something went wrong: a status, a stable code, one sentence, and
/// what more the caller may know. The reason why stays inside, as the private source.
///
/// Everything that is set here is public, except the source: that is for the log. It never reaches
/// a body or a header, nor this type's `Display` and `Debug`; [`Error::source`] gives it.
///
/// It is one pointer, cheap to clone.
///
/// ```
/// use buttress_error_envelope::Problem;
///
/// let problem = Problem::new(404, "ORDER_NOT_FOUND", "There is no such order.")
///     .with_source(std::io::Error::other("no row 7 in orders_v2"));
/// assert_eq!(format!("{problem}"), "ORDER_NOT_FOUND (404)");
/// assert!(!format!("{problem:?}").contains("orders_v2"));
/// ```
#[derive(Clone)]
pub struct Problem {
    parts: Arc<Parts>,
}

#[derive(Clone)]
struct Parts {
    status: StatusCode,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    type_uri: Option<Cow<'static, str>>,
    title: Option<Cow<'static, str>>,
    instance: Option<Cow<'static, str>>,
    retry_after: Option<RetryAfter>,
    retryable: Option<bool>,
    domain: Option<Cow<'static, str>>,
    rpc_code: Option<RpcCode>,
    debug: Option<Arc<str>>,
    fields: Vec<FieldError>,
    extensions: Map<String, Value>,
    headers: HeaderMap,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem with this status (a number or a [`StatusCode`]), code (`SCREAMING_SNAKE_CASE`,
    /// stable: clients match on it) and message (one sentence for the caller).
    ///
    /// A status that is no error, outside 400 to 599, becomes 500.
    ///
    /// The message is public as it is given, for every status. Never make it of an error's
    /// `Display`; give the error to [`Problem::with_source`].
    pub fn new(
        status: impl TryInto<StatusCode>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            parts: Arc::new(Parts {
                status: error_status(status),
                code: code.into(),
                message: message.into(),
                type_uri: None,
                title: None,
                instance: None,
                retry_after: None,
                retryable: None,
                domain: None,
                rpc_code: None,
                debug: None,
                fields: Vec::new(),
                extensions: Map::new(),
                headers: HeaderMap::new(),
                source: None,
            }),
        }
    }

    /// The opaque 500: code `INTERNAL` and always the same message, whatever the source.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::from_status(StatusCode::INTERNAL_SERVER_ERROR).with_source(source)
    }

    /// The problem that stands for a bare status.
    ///
    /// | status | code |
    /// | --- | --- |
    /// | 400 | `MALFORMED_REQUEST` |
    /// | 404 | `ROUTE_NOT_FOUND` |
    /// | 405 | `METHOD_NOT_ALLOWED` |
    /// | 408 | `REQUEST_TIMEOUT` |
    /// | 413 | `PAYLOAD_TOO_LARGE` |
    /// | 415 | `UNSUPPORTED_MEDIA_TYPE` |
    /// | 422 | `VALIDATION_FAILED` |
    /// | 429 | `RATE_LIMITED` |
    /// | 500 | `INTERNAL` |
    /// | 502 | `UPSTREAM_FAILED` |
    /// | 503 | `UNAVAILABLE` |
    /// | 504 | `UPSTREAM_TIMEOUT` |
    /// | others | the phrase of RFC 9110, section 15: 409 is `CONFLICT` |
    /// | without a phrase | `HTTP_` and the number |
    #[must_use]
    pub fn from_status(status: StatusCode) -> Self {
        let status = error_status(status);
        let (code, message) = preset::of(status);
        Self::new(status, code, message)
    }

    fn change(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(Arc::make_mut(&mut self.parts));
        self
    }

    /// The same with another status; one that is no error becomes 500.
    #[must_use]
    pub fn with_status(self, status: impl TryInto<StatusCode>) -> Self {
        self.change(|parts| parts.status = error_status(status))
    }

    /// The same with a URI that names the type of problem (RFC 9457, section 3.1.1).
    /// `about:blank` otherwise.
    ///
    /// It is shown as it is given, and must not be made of the request.
    #[must_use]
    pub fn with_type(self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.change(|parts| parts.type_uri = Some(uri.into()))
    }

    /// The same with a title (RFC 9457, section 3.1.3): the same for all problems of the type.
    #[must_use]
    pub fn with_title(self, title: impl Into<Cow<'static, str>>) -> Self {
        self.change(|parts| parts.title = Some(title.into()))
    }

    /// The same with a URI that names this occurrence (RFC 9457, section 3.1.5).
    #[must_use]
    pub fn with_instance(self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.change(|parts| parts.instance = Some(uri.into()))
    }

    /// The same with the time after which the caller may come back: the `Retry-After` field
    /// (RFC 9110, section 10.2.3), in whole seconds, rounded up, from 1 to a day.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.change(|parts| parts.retry_after = Some(wait.into()))
    }

    /// The same with word on whether the same request may succeed later; see
    /// [`Problem::is_retryable`]. It is shown, as the member `retryable`.
    #[must_use]
    pub fn with_retryable(self, retryable: bool) -> Self {
        self.change(|parts| parts.retryable = Some(retryable))
    }

    /// The same with the domain of its code: the service to whose catalogue the code belongs,
    /// `shop.example.com` say. It is shown by google.rpc.Status only, in `ErrorInfo` (AIP-193).
    #[must_use]
    pub fn with_domain(self, domain: impl Into<Cow<'static, str>>) -> Self {
        self.change(|parts| parts.domain = Some(domain.into()))
    }

    /// The same with another gRPC code than [`RpcCode::from_status`] takes for the status:
    /// `AlreadyExists` for a 409, say.
    #[must_use]
    pub fn with_rpc_code(self, code: RpcCode) -> Self {
        self.change(|parts| parts.rpc_code = Some(code))
    }

    /// The same with the chain of its source shown, as the member `debug`.
    #[cfg(any(feature = "debug-causes", feature = "tower"))]
    pub(crate) fn with_cause_shown(self) -> Self {
        let chain = self
            .source()
            .map(|source| buttress_core::Chain(source).to_string());
        match chain {
            Some(chain) => self.change(|parts| parts.debug = Some(chain.into())),
            None => self,
        }
    }

    /// The same with one more field that is wrong.
    #[must_use]
    pub fn with_field(self, field: FieldError) -> Self {
        self.with_fields([field])
    }

    /// The same with more fields that are wrong.
    #[must_use]
    pub fn with_fields(self, fields: impl IntoIterator<Item = FieldError>) -> Self {
        self.change(|parts| parts.fields.extend(fields))
    }

    /// The same with a member of your own (RFC 9457, section 3.2); the last of one name stands.
    ///
    /// It stands at the top level of problem+json and within `details` of the JSON envelope.
    /// The members `type`, `title`, `status`, `detail`, `instance`, `code`, `errors`,
    /// `retryable`, `debug` and `truncated` cannot be overwritten: an extension of such a name goes
    /// by `x_` and that name.
    /// Names should be letters, digits and `_`, at least three, and begin with a letter.
    #[must_use]
    pub fn with_extension(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let mut name = name.into();
        if RESERVED.contains(&name.as_str()) {
            name.insert_str(0, "x_");
        }
        self.change(|parts| drop(parts.extensions.insert(name, value.into())))
    }

    /// The same with one more header field, `Allow` or `WWW-Authenticate` say.
    ///
    /// A field that describes the body (`Content-Type`, `Content-Length`, …) has no effect: the
    /// body is ours. `Retry-After` has one only without [`Problem::with_retry_after`]. Nor has what
    /// comes after the first 64.
    #[must_use]
    pub fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        self.change(|parts| {
            if parts.headers.len() < MAX_HEADERS {
                parts.headers.append(name, value);
            }
        })
    }

    /// The same with the private reason. It is logged, and never leaves.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.change(|parts| parts.source = Some(Arc::from(source.into())))
    }

    /// The status: 400 to 599.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// The stable name that clients match on.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.parts.code
    }

    /// The sentence for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.parts.message
    }

    /// The type of the problem, `about:blank` if none was given.
    #[must_use]
    pub fn type_uri(&self) -> &str {
        self.parts.type_uri.as_deref().unwrap_or("about:blank")
    }

    /// The title, or the status's phrase if none was given; `None` for a status without a phrase.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.parts
            .title
            .as_deref()
            .or_else(|| self.status().canonical_reason())
    }

    /// The URI of this occurrence.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.parts.instance.as_deref()
    }

    /// When the caller may come back.
    #[must_use]
    pub fn retry_after(&self) -> Option<RetryAfter> {
        self.parts.retry_after
    }

    /// Whether the same request may succeed later, without anything else being changed: as it was
    /// said, and otherwise when there is a time to come back or the status is 408, 425, 429, 502,
    /// 503 or 504. Whether it is safe to repeat is another question, which the method and the idempotency
    /// key answer.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let by_status = || matches!(self.status().as_u16(), 408 | 425 | 429 | 502..=504);
        let given = self.parts.retryable;
        given.unwrap_or_else(|| self.retry_after().is_some() || by_status())
    }

    pub(crate) fn retryable_as_given(&self) -> Option<bool> {
        self.parts.retryable
    }

    /// The domain of the code, if one was given.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.parts.domain.as_deref()
    }

    /// The gRPC code: as it was given, or the one that stands for the status.
    #[must_use]
    pub fn rpc_code(&self) -> RpcCode {
        let given = self.parts.rpc_code;
        given.unwrap_or_else(|| RpcCode::from_status(self.status()))
    }

    pub(crate) fn debug(&self) -> Option<&str> {
        self.parts.debug.as_deref()
    }

    /// The fields that are wrong.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.parts.fields
    }

    /// The members of your own, under the names by which they are shown.
    #[must_use]
    pub fn extensions(&self) -> &Map<String, Value> {
        &self.parts.extensions
    }

    /// The header fields that were added.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }
}

fn error_status(status: impl TryInto<StatusCode>) -> StatusCode {
    status
        .try_into()
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Code and status, and no more: the message is for the caller, the source for the log.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code(), self.status().as_u16())
    }
}

/// What the caller sees, and whether there is a source. The source itself is not printed: the
/// `Debug` of a driver's error holds rows, and that of connect options a password.
impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("status", &self.status().as_u16())
            .field("code", &self.code())
            .field("message", &self.message())
            .field("fields", &self.fields().len())
            .field("extensions", &self.extensions().len())
            .field("retry_after", &self.retry_after())
            .field("has_source", &self.parts.source.is_some())
            .finish()
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.parts.source.as_ref()?;
        Some(&**source)
    }
}
