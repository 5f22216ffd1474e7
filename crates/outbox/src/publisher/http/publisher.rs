//! The publisher: one endpoint, and what is known of it.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use buttress_core::Clock;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue, Method, Request, header::USER_AGENT};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::{
    Endpoint, HttpClient,
    answer::{judge, judge_failure, late},
    connect, event,
};
use crate::{
    Delivery, PolicyError, PublishError, Publisher,
    webhook::{self, Signer, WallClock},
};

/// How many requests are under way at once, unless told otherwise.
const CONCURRENCY: usize = 8;
/// For how long requests of a batch are begun. What is left is not tried, and comes again.
pub(super) const BEGINNING: Duration = Duration::from_secs(5);
/// How much of an answer's body is read, so that its connection can be used again.
const LONGEST_ANSWER: usize = 16 * 1024;
/// How long that may take. The verdict stands already.
const ANSWER_PATIENCE: Duration = Duration::from_millis(250);
/// What all the rest may take: rendering, signing, a loaded machine.
const MARGIN: Duration = Duration::from_secs(2);

/// Sends each message to one endpoint, as a webhook of
/// [Standard Webhooks](https://www.standardwebhooks.com): signed with the endpoint's secrets, at a
/// time of its own, under the message's id. Cheap to clone; clones share what is known.
///
/// | the endpoint | becomes |
/// | --- | --- |
/// | answers 2xx | delivered |
/// | answers 410 | gone: nothing more is sent until [`enable`](Self::enable) |
/// | answers 408, 425, 429, 500 and more, or 3xx, which is not followed | down, not before `Retry-After` if it says one |
/// | answers anything else | the message is refused, and that counts |
/// | is not reached, is at an address that is not permitted, has a wrong certificate | down |
/// | is silent for too long, or answers what is no HTTP | down |
/// | cuts the connection before it answers | unknown |
///
/// A message that does not fit is refused for good without being sent: its id has a full stop or
/// other characters than visible ASCII, or its body is longer than the endpoint takes.
///
/// Dropping the future of [`publish`](Publisher::publish) closes the connections of requests that
/// are under way; the endpoint may have taken these messages or not.
#[derive(Clone)]
pub struct HttpPublisher {
    client: HttpClient,
    endpoint: Arc<Endpoint>,
    state: Arc<State>,
    concurrency: usize,
    clock: WallClock,
    monotonic: Clock,
}

struct State {
    signer: RwLock<Signer>,
    gone: AtomicBool,
}

impl HttpPublisher {
    /// A publisher to `endpoint` over `client`'s connections.
    ///
    /// # Errors
    ///
    /// When the endpoint's URL is of `https` and the client was given no TLS, or when its host is
    /// an address that the client may not connect to.
    pub fn new(client: &HttpClient, endpoint: Endpoint) -> Result<Self, PolicyError> {
        if endpoint.is_secure() && !client.speaks_tls() {
            let range =
                "https, for the client has no TLS: turn on the feature `tls`, and give it one";
            return Err(PolicyError::new("url", range));
        }
        // Each connection is judged by its own address. This one is known already.
        let literal = connect::host(&endpoint.uri).and_then(|host| host.parse().ok());
        if literal.is_some_and(|address| !client.permits(address)) {
            return Err(PolicyError::new("url", "an address that is not permitted"));
        }
        let state = State {
            signer: RwLock::new(endpoint.signer.clone()),
            gone: AtomicBool::new(false),
        };
        Ok(Self {
            client: client.clone(),
            endpoint: Arc::new(endpoint),
            state: Arc::new(state),
            concurrency: CONCURRENCY,
            clock: WallClock::system(),
            monotonic: Clock::default(),
        })
    }

    /// The same with up to so many requests under way at once, 1 to 256; 8 by default. Of one
    /// key there is never more than one.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn with_concurrency(mut self, requests: usize) -> Result<Self, PolicyError> {
        if !(1..=256).contains(&requests) {
            return Err(PolicyError::new("concurrency", "from 1 to 256"));
        }
        self.concurrency = requests;
        Ok(self)
    }

    /// The same with another wall clock, for tests.
    #[must_use]
    pub fn with_wall_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = WallClock::new(now);
        self
    }

    /// The longest that publishing a batch can take: give the relay's policy a publish deadline
    /// that is no shorter. A batch that its deadline ends is sent again, with all that was
    /// delivered of it.
    ///
    /// Requests are begun for five seconds; what is left of a batch then comes again. A little over 27
    /// seconds with the default timeout.
    #[must_use]
    pub fn longest_publish(&self) -> Duration {
        BEGINNING + self.endpoint.timeout + ANSWER_PATIENCE + MARGIN
    }

    /// Changes the secrets, for this and all clones, from the next request on. To change one
    /// without a gap: sign with the new and the old one, tell the receiver, sign with the new.
    pub fn set_signer(&self, signer: Signer) {
        let lock = &self.state.signer;
        *lock.write().unwrap_or_else(PoisonError::into_inner) = signer;
    }

    /// Whether the endpoint has answered 410, or [`disable`](Self::disable) was called: nothing is
    /// sent to it then. This is known in this process only, and forgotten with it; store it with
    /// the subscription if it is to last.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.state.gone.load(Ordering::Relaxed)
    }

    /// Sends nothing more until [`enable`](Self::enable).
    pub fn disable(&self) {
        self.state.gone.store(true, Ordering::Relaxed);
    }

    /// Sends again.
    pub fn enable(&self) {
        self.state.gone.store(false, Ordering::Relaxed);
    }

    /// Sends one message. Dropped, the endpoint may have taken it or not.
    pub(super) async fn send(&self, delivery: &Delivery) -> Result<(), PublishError> {
        if self.is_disabled() {
            return Err(PublishError::gone("the endpoint is disabled"));
        }
        let request = self.request(delivery)?;
        let patience = self.endpoint.timeout;
        let answer = tokio::time::timeout(patience, self.client.send(request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(judge_failure(&error)),
            Err(_) => return Err(late(patience)),
        };
        let blame = self.endpoint.blame;
        let verdict = judge(answer.status(), answer.headers(), blame, self.clock.now());
        if verdict.as_ref().is_err_and(is_gone) {
            self.disable();
        }
        drain(answer.into_body()).await;
        verdict
    }

    fn request(&self, delivery: &Delivery) -> Result<Request<Full<Bytes>>, PublishError> {
        let rendered =
            event::render(delivery, self.endpoint.form).map_err(PublishError::refused_for_good)?;
        let longest = self.endpoint.longest_body;
        if rendered.body.len() > longest {
            let reason = format_args!("the body is longer than the {longest} bytes that are sent");
            return Err(PublishError::refused_for_good(reason));
        }
        let signer = {
            let lock = &self.state.signer;
            lock.read().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let id = delivery.message().id();
        let signed = signer.sign(id, self.clock.now(), &rendered.body);
        let signed = signed.map_err(PublishError::refused_for_good)?;
        let mut request = Request::new(Full::new(rendered.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.uri.clone();
        let headers = request.headers_mut();
        *headers = rendered.headers;
        let agent = concat!("buttress-outbox/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        for (name, value) in &self.endpoint.headers {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in [
            (webhook::ID, id),
            (webhook::TIMESTAMP, signed.timestamp()),
            (webhook::SIGNATURE, signed.signature()),
        ] {
            let value = HeaderValue::from_str(value).map_err(PublishError::refused_for_good)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(request)
    }
}

#[async_trait::async_trait]
impl Publisher for HttpPublisher {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let away = AtomicBool::new(false);
        let begin = self.monotonic.now();
        let sent = batch.iter().map(|delivery| async {
            // What is under way goes on; what has not begun would fare no better, or too late.
            let elapsed = self.monotonic.now().saturating_since(begin);
            if away.load(Ordering::Relaxed) || elapsed >= BEGINNING {
                return Err(PublishError::skipped());
            }
            let answer = self.send(delivery).await;
            if answer.as_ref().is_err_and(PublishError::is_about_all) {
                away.store(true, Ordering::Relaxed);
            }
            answer
        });
        // Collected first: a lazy closure over the batch's lifetime would not be `Send` enough.
        let sent: Vec<_> = sent.collect();
        stream::iter(sent)
            .buffered(self.concurrency)
            .collect()
            .await
    }
}

impl fmt::Debug for HttpPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPublisher")
            .field("endpoint", &self.endpoint)
            .field("disabled", &self.is_disabled())
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

fn is_gone(error: &PublishError) -> bool {
    error.kind() == crate::PublishErrorKind::Gone
}

/// Reads a short body to its end. One that is long, or slow, is left: that closes its connection.
async fn drain(mut body: Incoming) {
    let reading = async {
        let mut read = 0_usize;
        while let Some(Ok(frame)) = body.frame().await {
            read = read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            if read > LONGEST_ANSWER {
                return;
            }
        }
    };
    // Whether it ended changes nothing.
    let _ = tokio::time::timeout(ANSWER_PATIENCE, reading).await;
}
