//! One request with a key, from its body to its answer.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
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

type Answer<R, E> = Result<Response<ResponseBody<R>>, E>;

/// What is asked under which key.
pub(super) struct Exchange {
    settings: Arc<Settings>,
    key: ScopedKey,
    fingerprint: Fingerprint,
    /// A completer asks, and not a client.
    redriven: Option<Redriven>,
}

/// Reads the request, claims its key and has it done.
pub(super) async fn answer<S, B, R>(
    service: S,
    settings: Arc<Settings>,
    key: Key,
    request: Request<B>,
) -> Answer<R, S::Error>
where
    S: Handles<B, R>,
    B: Asks,
    R: Answers,
{
    let begun = async {
        let (mut head, body) = request.into_parts();
        let scope = settings.scope_of(&head)?;
        let body = capture::whole(body, settings.largest_request).await?;
        let rule = &settings.fingerprint;
        let exchange = Exchange {
            key: scope.key(&key),
            fingerprint: rule.of(&head.method, &head.uri, &head.headers, &body),
            settings: Arc::clone(&settings),
            redriven: None,
        };
        let payload = exchange.payload(&head, &body);
        let guard = match exchange.begin(payload).await? {
            Ok(guard) => guard,
            Err(replay) => return Ok(Ok(replay.map(ResponseBody::whole))),
        };
        head.extensions.insert(Taken);
        exchange.detached(service, guard, head, body).await
    };
    match begun.await {
        Ok(answer) => answer,
        Err(refusal) => Ok((settings.respond)(refusal).map(ResponseBody::whole)),
    }
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
    let done = async {
        let (mut head, body) = request.into_parts();
        // It was read before; what the limit is by now is not asked.
        let body = capture::whole(body, usize::MAX).await?;
        let exchange = Exchange {
            settings: Arc::clone(&settings),
            key: guard.key().clone(),
            fingerprint: redriven.fingerprint(),
            redriven: Some(redriven),
        };
        head.extensions.insert(Taken);
        exchange.detached(service, guard, head, body).await
    };
    match done.await {
        Ok(answer) => answer,
        Err(refusal) => Ok((settings.respond)(refusal).map(ResponseBody::whole)),
    }
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

    /// Has it done to its end, whether the caller stays or not.
    async fn detached<S, B, R>(
        self,
        service: S,
        guard: Guard,
        head: request::Parts,
        body: Bytes,
    ) -> Result<Answer<R, S::Error>, HttpRefusal>
    where
        S: Handles<B, R>,
        B: Asks,
        R: Answers,
    {
        let settings = Arc::clone(&self.settings);
        // Boxed, for it is large, and would be moved through each wrap on its way into the task.
        let work = Box::pin(self.work(service, guard, head, body));
        let done = settings.idempotency.spawn(work.in_current_span()).await;
        done.ok_or(HttpRefusal::Stopped)
    }

    /// Has it done, and says of the key how it ended.
    async fn work<S, B, R>(
        self,
        mut service: S,
        guard: Guard,
        mut head: request::Parts,
        body: Bytes,
    ) -> Answer<R, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        B: Body<Data = Bytes>,
        R: Body<Data = Bytes> + Unpin,
    {
        let handed = Idempotent::new(guard, self.settings.headers.clone());
        head.extensions.insert(handed.clone());
        let request = Request::from_parts(head, RequestBody::whole(body));
        // What a panic leaves half-done is the service's own; it is raised again below.
        let call = AssertUnwindSafe(async move { service.call(request).await });
        let done = call.catch_unwind().await;
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
        match done {
            Ok(Ok(response)) => Ok(self.settle(guard, response).await),
            // What cannot be said of the key is told as an event, and its lease runs out.
            Ok(Err(error)) => {
                let _ = guard.keep_unknown().await;
                Err(error)
            }
            Err(panic) => {
                let _ = match self.settings.idempotency.policy().abandoned() {
                    Abandoned::Release => guard.release().await,
                    Abandoned::Doubt => guard.keep_unknown().await,
                };
                resume_unwind(panic)
            }
        }
    }

    async fn settle<R>(&self, guard: Guard, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Body<Data = Bytes> + Unpin,
    {
        let (mut head, body) = response.into_parts();
        let said = head.extensions.remove::<Keep>();
        let keep = self.settings.statuses.of(head.status, &head.headers, said);
        let keep = match (&self.redriven, said) {
            (Some(_), None) => keep.without_client(head.status),
            _ => keep,
        };
        let body = match keep {
            Keep::Answer => return self.keep(guard, head, body).await,
            // As above.
            Keep::Nothing => {
                let _ = guard.release().await;
                body
            }
            Keep::Unknown => {
                let _ = guard.keep_unknown().await;
                body
            }
        };
        Response::from_parts(head, ResponseBody::passing(body))
    }

    /// Keeps the answer, or that it was given.
    async fn keep<R>(
        &self,
        guard: Guard,
        head: response::Parts,
        body: R,
    ) -> Response<ResponseBody<R>>
    where
        R: Body<Data = Bytes> + Unpin,
    {
        let settings = &self.settings;
        let longest = settings.idempotency.policy().longest_outcome();
        let headers = settings.headers.of(&head.headers);
        let stored = |body| StoredResponse::new(head.status, headers.clone(), body).encode();
        let mut record = stored(None);
        let room = longest.saturating_sub(record.len());
        let body = match capture::response(body, room, settings.hold_streams).await {
            Captured::Whole(whole) => {
                record = stored(Some(whole.clone()));
                ResponseBody::whole(whole)
            }
            Captured::Passing(body) => body,
        };
        let record = Bytes::from(record);
        let answer = Response::from_parts(head, body);
        match guard.complete(record.clone()).await {
            Err(CompleteError::Lost(_)) => match self.after_all(record).await {
                None => answer,
                Some(other) => other.map(ResponseBody::whole),
            },
            // The request was carried out, so its answer is the true one. What is not recorded
            // about it is told as an event.
            Err(_) => answer,
            Ok(()) => {
                if let Some(redriven) = &self.redriven {
                    redriven.set_done();
                }
                answer
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
