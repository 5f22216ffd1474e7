//! One request with a key, from its body to its answer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, request, response};
use http_body::Body;
use tower_service::Service;
use tracing::Instrument;

use super::{
    Idempotent, Redriven, RequestBody, ResponseBody,
    capture::{self, Captured},
    layer::Settings,
    service::Taken,
};
use crate::{
    Abandoned, Begin, CompleteError, EventKind, Fingerprint, Guard, Key, Refusal, Scope, ScopedKey,
    Tracked,
    http::{HttpRefusal, Keep, StoredResponse},
    idempotency::Payload,
};

/// A body as it comes to a service that works on after its caller is gone.
pub(super) trait Asks: Body<Data = Bytes, Error: Send> + Send + 'static {}

impl<B: Body<Data = Bytes, Error: Send> + Send + 'static> Asks for B {}

/// A body as it leaves one.
pub(super) trait Answers: Body<Data = Bytes, Error: Send> + Unpin + Send + 'static {}

impl<R: Body<Data = Bytes, Error: Send> + Unpin + Send + 'static> Answers for R {}

/// Such a service.
pub(super) trait Handles<B: Body, R>:
    Service<Request<RequestBody<B>>, Response = Response<R>, Future: Send, Error: Send + 'static>
    + Send
    + 'static
{
}

impl<S, B: Body, R> Handles<B, R> for S where
    S: Service<
            Request<RequestBody<B>>,
            Response = Response<R>,
            Future: Send,
            Error: Send + 'static,
        > + Send
        + 'static
{
}

/// What is said of a key whose request was answered.
enum End {
    Answer(Bytes),
    Nothing,
    /// As `Nothing`, and nobody was told so.
    HandedBack,
    Unknown,
}

type Answer<R, E> = Result<Response<ResponseBody<R>>, E>;

/// What is asked under which key.
pub(super) struct Exchange {
    settings: Arc<Settings>,
    key: ScopedKey,
    fingerprint: Fingerprint,
    /// A completer asks, and not a client.
    redriven: Option<Redriven>,
}

/// Reads the request, claims its key and has it done. Head and body apart, for both together would
/// be there whole and in parts.
#[expect(
    clippy::manual_async_fn,
    reason = "what an async function is given stands in its future twice"
)]
pub(super) fn answer<S, B, R>(
    service: S,
    settings: Arc<Settings>,
    key: Key,
    mut head: request::Parts,
    body: B,
) -> impl Future<Output = Answer<R, S::Error>> + Send + 'static
where
    S: Handles<B, R>,
    B: Asks,
    R: Answers,
{
    async move {
        let refusal = match claimed(&settings, &key, &head, body).await {
            Ok(Ok((exchange, guard, body))) => {
                head.extensions.insert(Taken);
                match exchange.detached(service, guard, head, body).await {
                    Some(answer) => return answer,
                    None => HttpRefusal::Stopped,
                }
            }
            Ok(Err(replay)) => return Ok(replay.map(ResponseBody::whole)),
            Err(refusal) => refusal,
        };
        Ok((settings.respond)(refusal).map(ResponseBody::whole))
    }
}

/// The key of this request with its body, or the answer that was given.
async fn claimed<B: Asks>(
    settings: &Arc<Settings>,
    key: &Key,
    head: &request::Parts,
    body: B,
) -> Result<Result<(Exchange, Guard, Bytes), Response<Bytes>>, HttpRefusal> {
    let scope = settings.scope_of(head)?;
    let body = capture::whole(body, settings.largest_request).await?;
    let rule = &settings.fingerprint;
    let exchange = Exchange {
        key: scope.key(key),
        fingerprint: rule.of(&head.method, &head.uri, &head.headers, &body),
        settings: Arc::clone(settings),
        redriven: None,
    };
    let payload = exchange.payload(head, &body);
    let begun = exchange.begin(payload).await?;
    Ok(begun.map(|guard| (exchange, guard, body)))
}

/// Has a request done that a completer makes again, under the key that it has.
pub(super) async fn again<S, B, R>(
    service: S,
    settings: Arc<Settings>,
    redriven: Redriven,
    guard: Guard,
    request: Request<B>,
) -> Answer<R, S::Error>
where
    S: Handles<B, R>,
    B: Asks,
    R: Answers,
{
    let (mut head, body) = request.into_parts();
    // It was read before; what the limit is by now is not asked.
    let refusal = match capture::whole(body, usize::MAX).await {
        Ok(body) => {
            let exchange = Exchange {
                settings: Arc::clone(&settings),
                key: guard.key().clone(),
                fingerprint: redriven.fingerprint(),
                redriven: Some(redriven),
            };
            head.extensions.insert(Taken);
            match exchange.detached(service, guard, head, body).await {
                Some(answer) => return answer,
                None => HttpRefusal::Stopped,
            }
        }
        Err(refusal) => refusal,
    };
    Ok((settings.respond)(refusal).map(ResponseBody::whole))
}

impl Settings {
    fn scope_of(&self, head: &request::Parts) -> Result<Scope, HttpRefusal> {
        let whose = (self.scope)(head).ok_or(HttpRefusal::Nobody)?;
        let route = (self.route)(head);
        let method = head.method.as_str().as_bytes();
        Ok(Scope::of([
            whose.as_bytes().as_slice(),
            method,
            route.as_bytes(),
        ]))
    }
}

impl Exchange {
    /// What is kept of the request with its key, where that was chosen.
    fn payload(&self, head: &request::Parts, body: &Bytes) -> Option<Payload> {
        let (kept, idempotency) = (self.settings.kept.as_ref()?, &self.settings.idempotency);
        let longest = idempotency.policy().longest_request();
        match kept.keep(&self.key, head, body, longest) {
            Ok(payload) => Some(payload),
            Err(reason) => {
                idempotency.inner().tell(EventKind::NotKept { reason });
                None
            }
        }
    }

    /// The key, if it is ours now, or the answer that was given.
    async fn begin(
        &self,
        payload: Option<Payload>,
    ) -> Result<Result<Guard, Response<Bytes>>, HttpRefusal> {
        let (idempotency, patience) = (&self.settings.idempotency, self.settings.wait);
        let (key, fingerprint) = (&self.key, &self.fingerprint);
        let begun = if patience.is_zero() {
            idempotency.begin_as(key, fingerprint, payload).await?
        } else {
            let begun = idempotency.begin_within(key, fingerprint, payload, patience);
            begun.await?
        };
        match begun {
            Begin::New(guard) => Ok(Ok(guard)),
            Begin::Replay(record) => Ok(Err(self.replay(&record)?)),
            Begin::InFlight { retry_after } => Err(Refusal::in_flight(retry_after).into()),
            Begin::Mismatch => Err(Refusal::Mismatch.into()),
        }
    }

    fn replay(&self, record: &[u8]) -> Result<Response<Bytes>, HttpRefusal> {
        let stored = StoredResponse::decode(record)?;
        let mut replay = stored.into_replay().ok_or(HttpRefusal::AnswerNotKept)?;
        if let Some(mark) = &self.settings.mark {
            mark(&mut replay);
        }
        Ok(replay)
    }

    /// Has it done to its end, whether the caller stays or not. `None` when the process ends first.
    fn detached<S, B, R>(
        self,
        service: S,
        guard: Guard,
        head: request::Parts,
        body: Bytes,
    ) -> Tracked<Answer<R, S::Error>>
    where
        S: Handles<B, R>,
        B: Asks,
        R: Answers,
    {
        let settings = Arc::clone(&self.settings);
        // Boxed, for it is large, and would be moved through each wrap on its way into the task.
        let work = Box::pin(self.work(service, guard, head, body));
        settings.idempotency.spawn(work.in_current_span())
    }

    /// Has it done, and says of the key how it ended. A block, as above.
    fn work<S, B, R>(
        self,
        mut service: S,
        guard: Guard,
        mut head: request::Parts,
        body: Bytes,
    ) -> impl Future<Output = Answer<R, S::Error>> + Send + 'static
    where
        S: Handles<B, R>,
        B: Asks,
        R: Answers,
    {
        let handed = Idempotent::new(guard, self.settings.headers.clone());
        head.extensions.insert(handed.clone());
        let request = Request::from_parts(head, RequestBody::whole(body));
        async move {
            // What a panic leaves half-done is the service's own; it is raised again below.
            let call = catch_unwind(AssertUnwindSafe(|| service.call(request)));
            let done = match call {
                Ok(call) => AssertUnwindSafe(call).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            drop(service);
            // A handler that completed in its own transaction has taken it.
            let guard = handed.take();
            let Some(guard) = guard else {
                return match done {
                    Ok(result) => result.map(|response| {
                        self.handler_has_said(&response);
                        response.map(ResponseBody::passing)
                    }),
                    Err(panic) => resume_unwind(panic),
                };
            };
            let (answer, end) = match done {
                Ok(Ok(response)) => {
                    let (answer, end) = self.judge(response).await;
                    (Ok(answer), end)
                }
                Ok(Err(error)) => (Err(Ok(error)), End::Unknown),
                Err(panic) => {
                    let end = match self.settings.idempotency.policy().abandoned() {
                        Abandoned::Release => End::HandedBack,
                        Abandoned::Doubt => End::Unknown,
                    };
                    (Err(Err(panic)), end)
                }
            };
            // What cannot be said of the key is told as an event, and its lease runs out.
            let other = match end {
                End::Answer(record) => self.keep(guard, record).await,
                End::Nothing => {
                    let _ = guard.release().await;
                    None
                }
                End::HandedBack => {
                    let _ = guard.hand_back().await;
                    None
                }
                End::Unknown => {
                    let _ = guard.keep_unknown().await;
                    None
                }
            };
            match (answer, other) {
                (Ok(_), Some(other)) => Ok(other.map(ResponseBody::whole)),
                (Ok(answer), None) => Ok(answer),
                (Err(Ok(error)), _) => Err(error),
                (Err(Err(panic)), _) => resume_unwind(panic),
            }
        }
    }

    /// The answer as it leaves, and what is said of its key.
    async fn judge<R: Answers>(&self, response: Response<R>) -> (Response<ResponseBody<R>>, End) {
        let (mut head, body) = response.into_parts();
        let said = head.extensions.remove::<Keep>();
        let keep = self.settings.statuses.of(head.status, &head.headers, said);
        let keep = match (&self.redriven, said) {
            (Some(_), None) => keep.without_client(head.status),
            _ => keep,
        };
        let end = match keep {
            Keep::Answer => {
                let (body, record) = self.record(&head, body).await;
                return (Response::from_parts(head, body), End::Answer(record));
            }
            Keep::Nothing => End::Nothing,
            Keep::Unknown => End::Unknown,
        };
        (Response::from_parts(head, ResponseBody::passing(body)), end)
    }

    /// The body as it leaves, and what is kept of the answer, or that it was given.
    async fn record<R: Answers>(
        &self,
        head: &response::Parts,
        body: R,
    ) -> (ResponseBody<R>, Bytes) {
        let settings = &self.settings;
        let longest = settings.idempotency.policy().longest_outcome();
        let headers = settings.headers.of(&head.headers);
        let stored = |body| StoredResponse::new(head.status, headers.clone(), body).encode();
        let record = stored(None);
        let room = longest.saturating_sub(record.len());
        match capture::response(body, room, settings.hold_streams).await {
            Captured::Whole(whole) => {
                let record = stored(Some(whole.clone()));
                (ResponseBody::whole(whole), record.into())
            }
            Captured::Passing(body) => (body, record.into()),
        }
    }

    /// Records it; and the answer of another, when that is the one that counts.
    async fn keep(&self, guard: Guard, record: Bytes) -> Option<Response<Bytes>> {
        match guard.complete(record.clone()).await {
            // Rare, and large.
            Err(CompleteError::Lost(_)) => Box::pin(self.after_all(record)).await,
            // The request was carried out, so its answer is the true one. What is not recorded
            // about it is told as an event.
            Err(_) => None,
            Ok(()) => {
                if let Some(redriven) = &self.redriven {
                    redriven.set_done();
                }
                None
            }
        }
    }

    /// It has completed the key itself, by what its answer says.
    fn handler_has_said<R>(&self, answer: &Response<R>) {
        let Some(redriven) = &self.redriven else {
            return;
        };
        let (status, headers) = (answer.status(), answer.headers());
        let said = answer.extensions().get::<Keep>().copied();
        if self.settings.statuses.of(status, headers, said) == Keep::Answer {
            redriven.set_done();
        }
    }

    /// The key was lost to another, whose answer counts; `None` when there is no other, and ours
    /// does.
    async fn after_all(&self, record: Bytes) -> Option<Response<Bytes>> {
        let begun = match self.begin(None).await {
            Ok(Err(replay)) => return Some(replay),
            Ok(Ok(guard)) => guard,
            Err(refusal) => return Some((self.settings.respond)(refusal)),
        };
        // Nobody has it: the record went while we worked.
        let _ = begun.complete(record).await;
        None
    }
}
