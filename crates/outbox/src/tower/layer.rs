//! The layer: verified, whole, and only then to the handler.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use buttress_core::Fault;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{Refusal, ResponseFuture, Seen, capture::capture, respond::Responder};
use crate::webhook::{Fields, Verifier, VerifyError, WallClock};

/// Lets a webhook through when it is believed, and answers itself when it is not.
///
/// - The fields are read before the body is: what is malformed or too old costs nothing more.
/// - The body is read whole, up to a bound and within a time, and handed on byte for byte: what
///   was verified is what the handler gets. Its type must be one that can be made of [`Bytes`], as
///   axum's and http-body-util's `Full` can.
/// - The handler finds a [`Webhook`] in the request's extensions.
/// - One that was taken before does not reach the handler, if the layer was given an inbox by
///   [`with_seen`](Self::with_seen). It is answered 204: the sender, who may only have lost the
///   first answer, is to be content.
///
/// | what | status |
/// | --- | --- |
/// | a field is missing, twice there or malformed; the body ends too early | 400 |
/// | no signature is right, or the time is too far away | 401 |
/// | the body does not come in time | 408 |
/// | the body is too long | 413 |
/// | the inbox cannot be asked | 503, or what its error says |
///
/// Refusals are answered as RFC 9457 problem+json, unless told otherwise. Dropping the response
/// future drops the handler's, or what was read.
///
/// ```
/// use buttress_outbox::{tower::WebhookLayer, webhook::{Secret, Verifier}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// let layer = WebhookLayer::new(Verifier::new([secret])?);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct WebhookLayer {
    rules: Arc<Rules>,
}

#[derive(Clone)]
struct Rules {
    verifier: Verifier,
    longest_body: usize,
    body_timeout: Duration,
    seen: Option<Arc<dyn Seen>>,
    responder: Responder,
    clock: WallClock,
}

impl WebhookLayer {
    /// 256 KiB.
    pub const DEFAULT_LONGEST_BODY: usize = 256 * 1024;
    /// Ten seconds.
    pub const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(10);

    /// The layer as described above, without an inbox.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self {
            rules: Arc::new(Rules {
                verifier,
                longest_body: Self::DEFAULT_LONGEST_BODY,
                body_timeout: Self::DEFAULT_BODY_TIMEOUT,
                seen: None,
                responder: Responder::default(),
                clock: WallClock::system(),
            }),
        }
    }

    fn change(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Arc::make_mut(&mut self.rules));
        self
    }

    /// The same with bodies of up to so many bytes.
    #[must_use]
    pub fn with_longest_body(self, bytes: usize) -> Self {
        self.change(|rules| rules.longest_body = bytes)
    }

    /// The same with so much time for a body to come.
    #[must_use]
    pub fn with_body_timeout(self, timeout: Duration) -> Self {
        self.change(|rules| rules.body_timeout = timeout)
    }

    /// The same with an inbox that knows what was taken before.
    #[must_use]
    pub fn with_seen(self, seen: impl Seen) -> Self {
        self.change(|rules| rules.seen = Some(Arc::new(seen)))
    }

    /// The same with other answers to those who are refused. It is called with a [`Refusal`].
    #[must_use]
    pub fn with_responder(
        self,
        respond: impl Fn(&dyn Fault) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.change(|rules| rules.responder = Responder::new(respond))
    }

    /// The same with another wall clock, for tests.
    #[must_use]
    pub fn with_wall_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.change(|rules| rules.clock = WallClock::new(now))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("verifier", &self.verifier)
            .field("longest_body", &self.longest_body)
            .field("body_timeout", &self.body_timeout)
            .field("seen", &self.seen.is_some())
            .finish_non_exhaustive()
    }
}

/// A webhook that is believed, in the extensions of its request.
///
/// Take its id once, in the transaction of what it makes you do: the same webhook may come again,
/// because the answer was lost, or because somebody sends it once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    id: Arc<str>,
    sent: SystemTime,
}

impl Webhook {
    /// Its id: the same however often it comes.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it was sent, by the sender's clock, to the second.
    #[must_use]
    pub const fn sent(&self) -> SystemTime {
        self.sent
    }
}

impl Rules {
    /// The request as it goes on; `None` for one that was taken before.
    async fn admit<B>(&self, request: Request<B>) -> Result<Option<Request<B>>, Refusal>
    where
        B: Body + From<Bytes>,
    {
        let (mut parts, body) = request.into_parts();
        let fields = read_fields(&parts.headers)?;
        self.verifier.check_fields(fields, self.clock.now())?;
        let reading = capture(body, self.longest_body);
        let body = tokio::time::timeout(self.body_timeout, reading).await;
        let body = body.unwrap_or(Err(Refusal::Late))?;
        let verified = self.verifier.verify_at(fields, &body, self.clock.now())?;
        if let Some(seen) = &self.seen
            && seen
                .was_taken(verified.id())
                .await
                .map_err(Refusal::Unknown)?
        {
            return Ok(None);
        }
        let webhook = Webhook {
            id: verified.id().into(),
            sent: verified.sent(),
        };
        parts.extensions.insert(webhook);
        Ok(Some(Request::from_parts(parts, body.into())))
    }
}

/// Each of the fields once. Of two, one would be verified and the other might be used.
fn read_fields(headers: &HeaderMap) -> Result<Fields<'_>, VerifyError> {
    let get = |name: &'static str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().ok_or(VerifyError::Missing(name))?;
        match (values.next(), value.to_str()) {
            (None, Ok(text)) => Ok(text),
            _ => Err(VerifyError::Malformed(name)),
        }
    };
    use crate::webhook::{ID, SIGNATURE, TIMESTAMP};
    Ok(Fields::new(get(ID)?, get(TIMESTAMP)?, get(SIGNATURE)?))
}

impl<S> Layer<S> for WebhookLayer {
    type Service = WebhookService<S>;

    fn layer(&self, inner: S) -> WebhookService<S> {
        WebhookService {
            inner,
            rules: Arc::clone(&self.rules),
        }
    }
}

/// The service that [`WebhookLayer`] makes.
#[derive(Clone, Debug)]
pub struct WebhookService<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, B, R> Service<Request<B>> for WebhookService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    B: Body<Data: Send> + From<Bytes> + Send + 'static,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        // The one that was polled ready is the one that is called.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        let rules = Arc::clone(&self.rules);
        let responder = rules.responder.clone();
        let admitting = Box::pin(async move { rules.admit(request).await });
        ResponseFuture::new(admitting, ready, responder)
    }
}

/// The answer to one that was taken before.
pub(super) fn content<R: From<Bytes>>() -> Response<R> {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
