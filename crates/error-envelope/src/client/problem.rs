//! What another service said when it did not do what it was asked for.

use std::{error::Error, fmt, time::SystemTime};

use buttress_core::RetryAfter;
use http::{
    HeaderMap, StatusCode,
    header::{DATE, RETRY_AFTER},
};
use serde_json::{Map, Value};

use super::read;
use crate::{FieldError, Problem};

/// No longer body is read: 64 KiB. Of one that is, nothing is taken, for half of it is no JSON.
pub const MAX_REMOTE_BODY: usize = 64 * 1024;

/// A longer id is not written into a log.
const LONGEST_WORD: usize = 128;

/// In which form an error came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemoteForm {
    /// `{"success": false, "error": {"code": …, "message": …}}`.
    Envelope,
    /// RFC 9457.
    ProblemJson,
    /// `google.rpc.Status`, bare or within `error`, as AIP-193 and HTTP gateways of gRPC write it.
    GoogleRpc,
    /// None of these, or no body that could be read: only status and headers are known.
    Unknown,
}

/// The error of another service, whichever form it came in.
///
/// It is read with the tolerance that RFC 9457, section 3.1, asks for: a member of the wrong type
/// is as good as absent, one that is not known is an extension, and the status is the one of the
/// response, whatever the body says. No response makes it panic or fail: where nothing can be read,
/// the status is what is known.
///
/// As a [`Fault`](buttress_core::Fault) it leaves your own service as 503 (the other one answered
/// 429 or 503), 504 (408 or 504) or 502 (all else), in words that are ours. What it says is shown
/// to your callers only by [`RemoteProblem::relayed`]; nor is it in `Display` and `Debug`, but for
/// status and code.
///
/// ```
/// use buttress_error_envelope::client::RemoteProblem;
/// use http::{HeaderMap, StatusCode};
///
/// let body = br#"{"success":false,"error":{"code":"ORDER_NOT_FOUND","message":"None."}}"#;
/// let problem = RemoteProblem::from_parts(StatusCode::NOT_FOUND, &HeaderMap::new(), body);
/// assert_eq!(problem.code(), Some("ORDER_NOT_FOUND"));
/// assert_eq!(problem.to_string(), "the other service answered 404 ORDER_NOT_FOUND");
/// ```
#[derive(Clone)]
pub struct RemoteProblem {
    parts: Box<Parts>,
}

#[derive(Clone)]
struct Parts {
    status: StatusCode,
    retry_after: Option<RetryAfter>,
    request_id: Option<String>,
    complete: bool,
    told: Told,
}

/// What a body said.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) form: RemoteForm,
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) type_uri: Option<String>,
    pub(super) title: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) retryable: Option<bool>,
    pub(super) fields: Vec<FieldError>,
    pub(super) extensions: Map<String, Value>,
    pub(super) truncated: bool,
}

impl Told {
    pub(super) fn nothing() -> Self {
        Self::in_form(RemoteForm::Unknown)
    }

    pub(super) fn in_form(form: RemoteForm) -> Self {
        Self {
            form,
            status: None,
            code: None,
            detail: None,
            type_uri: None,
            title: None,
            instance: None,
            domain: None,
            request_id: None,
            retry_after: None,
            retryable: None,
            fields: Vec::new(),
            extensions: Map::new(),
            truncated: false,
        }
    }
}

impl RemoteProblem {
    /// Reads an error from the parts of a response, however it was sent.
    ///
    /// What the body is, its `Content-Type` says; where that is no more than "JSON", or absent, its
    /// members do. A body longer than [`MAX_REMOTE_BODY`] is not looked at. A `Retry-After` that is
    /// a date is taken relative to the response's own `Date`, for the clocks of two hosts differ,
    /// and to this host's clock where there is none.
    ///
    /// Whether the status is that of an error is not asked; [`RemoteProblem::check`] does that.
    #[must_use]
    pub fn from_parts(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let fits = body.len() <= MAX_REMOTE_BODY;
        let told = if fits {
            read::body(status, headers, body)
        } else {
            Told::nothing()
        };
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        Self {
            parts: Box::new(Parts {
                status,
                retry_after: asked(headers).or(told.retry_after),
                request_id: id
                    .or(told.request_id.as_deref())
                    .filter(|id| is_word(id))
                    .map(str::to_owned),
                complete: fits && !told.truncated,
                told,
            }),
        }
    }

    /// The response, if its status is below 400.
    ///
    /// # Errors
    ///
    /// What it says, if its status is that of an error.
    pub fn check<B: AsRef<[u8]>>(response: http::Response<B>) -> Result<http::Response<B>, Self> {
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        let body = response.body().as_ref();
        Err(Self::from_parts(
            response.status(),
            response.headers(),
            body,
        ))
    }

    /// The same, of which the body did not come in full.
    #[cfg(feature = "client")]
    pub(super) fn incomplete(mut self) -> Self {
        self.parts.complete = false;
        self
    }

    /// The status of the response. Whatever the body said of it, this one counts.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// The status that the body named, which a proxy may have left behind (RFC 9457, section
    /// 3.1.2).
    #[must_use]
    pub fn advisory_status(&self) -> Option<u16> {
        self.parts.told.status
    }

    /// In which form it came.
    #[must_use]
    pub fn form(&self) -> RemoteForm {
        self.parts.told.form
    }

    /// The stable name of the error: the envelope's `code`, the extension `code` of problem+json,
    /// or of google.rpc the reason of its `ErrorInfo`, and without one the name of its code, as
    /// `NOT_FOUND`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.parts.told.code.as_deref()
    }

    /// The sentence about this occurrence. Of another service: for your callers only if you trust
    /// it.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.parts.told.detail.as_deref()
    }

    /// The type of the problem, `about:blank` if none was named. May be relative, and is a name:
    /// nothing says that it can be fetched.
    #[must_use]
    pub fn type_uri(&self) -> &str {
        self.parts.told.type_uri.as_deref().unwrap_or("about:blank")
    }

    /// The title, or the status's phrase if none was given; `None` for a status without a phrase.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        let told = self.parts.told.title.as_deref();
        told.or_else(|| self.status().canonical_reason())
    }

    /// The URI of this occurrence.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.parts.told.instance.as_deref()
    }

    /// To whom the reason belongs: the domain of google.rpc's `ErrorInfo`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.parts.told.domain.as_deref()
    }

    /// The id under which the other service's log speaks of it: `X-Request-Id`, or google.rpc's
    /// `RequestInfo`. Only one of at most 128 visible ASCII characters, so that it can be logged.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.parts.request_id.as_deref()
    }

    /// When to come back: the field `Retry-After`, or google.rpc's `RetryInfo`; from a second to a
    /// day, counted from when the response came.
    #[must_use]
    pub fn retry_after(&self) -> Option<RetryAfter> {
        self.parts.retry_after
    }

    /// Whether the same request may succeed later, if the other service says so (the member
    /// `retryable`). It does not say whether it is safe to repeat: see [`RemoteProblem::verdict`].
    #[must_use]
    pub fn is_retryable(&self) -> Option<bool> {
        self.parts.told.retryable
    }

    /// The fields that are wrong. The envelope tells them by path alone, so there each is taken
    /// for one of the body.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.parts.told.fields
    }

    /// All other members: those of problem+json, of the envelope's `details`, of google.rpc the
    /// metadata of `ErrorInfo`, and under `details` the details that are not known here. What a
    /// service says in debug mode (`debug`, `DebugInfo`) is left out.
    #[must_use]
    pub fn extensions(&self) -> &Map<String, Value> {
        &self.parts.told.extensions
    }

    /// Whether all was read that there was to say. Not so when the body was too long or its end
    /// never came, or when the other service itself says that it left something out.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.parts.complete
    }

    /// The problem as the other service told it, to be handed on to your own callers: status,
    /// code, words, fields, extensions, time to come back. All of it becomes public; do so only
    /// where the other service speaks to the same callers as yours. This error is its source.
    ///
    /// What it left open is filled from its status: see [`Problem::from_status`].
    #[must_use]
    pub fn relayed(self) -> Problem {
        let told = &self.parts.told;
        let mut problem = Problem::from_status(self.status());
        if told.code.is_some() || told.detail.is_some() {
            let code = told.code.as_deref().unwrap_or(problem.code());
            let message = told.detail.as_deref().unwrap_or(problem.message());
            problem = Problem::new(self.status(), code.to_owned(), message.to_owned());
        }
        if let Some(uri) = &told.type_uri {
            problem = problem.with_type(uri.clone());
        }
        if let Some(title) = &told.title {
            problem = problem.with_title(title.clone());
        }
        if let Some(uri) = &told.instance {
            problem = problem.with_instance(uri.clone());
        }
        if let Some(wait) = self.retry_after() {
            problem = problem.with_retry_after(wait.as_duration());
        }
        for (name, value) in &told.extensions {
            problem = problem.with_extension(name.clone(), value.clone());
        }
        if let Some(domain) = &told.domain {
            problem = problem.with_domain(domain.clone());
        }
        if let Some(retryable) = told.retryable {
            problem = problem.with_retryable(retryable);
        }
        problem = problem.with_fields(told.fields.iter().cloned());
        problem.with_source(self)
    }
}

/// Status and code, and the code only if it is one word: a log is no place for strangers' texts.
impl fmt::Display for RemoteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the other service answered {}", self.status().as_u16())?;
        match self.code().filter(|code| is_word(code)) {
            Some(code) => write!(f, " {code}"),
            None => Ok(()),
        }
    }
}

/// What kind of answer it was, without its texts: they may hold what was asked.
impl fmt::Debug for RemoteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteProblem")
            .field("status", &self.status().as_u16())
            .field("code", &self.code().filter(|code| is_word(code)))
            .field("form", &self.form())
            .field("fields", &self.fields().len())
            .field("extensions", &self.extensions().len())
            .field("retry_after", &self.retry_after())
            .field("request_id", &self.request_id())
            .field("complete", &self.is_complete())
            .finish()
    }
}

impl Error for RemoteProblem {}

/// Whether it can stand in a line of a log as it is.
fn is_word(text: &str) -> bool {
    (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[expect(
    clippy::disallowed_methods,
    reason = "an HTTP date is one of the wall clock, and there is no other where the response has no Date"
)]
fn asked(headers: &HeaderMap) -> Option<RetryAfter> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let sent = headers.get(DATE).and_then(|date| date.to_str().ok());
    let sent = sent.and_then(|date| httpdate::parse_http_date(date).ok());
    RetryAfter::parse(value, sent.unwrap_or_else(SystemTime::now))
}
