//! The layer, and what is chosen with it.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Response, request::Parts};
use tower_layer::Layer;

use super::{IdempotencyService, KeptRequests, problem};
use crate::{
    Idempotency, IdempotencyError, Scope,
    http::{FingerprintRule, HttpRefusal, KeyRule, ReplayedHeaders, StatusRule},
    store::Keeps,
};

/// Answers a request that comes again with its `Idempotency-Key` with the first answer.
///
/// - **Which requests.** POST and PATCH, on every route ([`methods`](Self::methods),
///   [`only_if`](Self::only_if)); others pass untouched. A key is needed, unless it is
///   [optional](Self::optional_key).
/// - **Whose key.** `scope` names tenant and principal by the request's head; the layer adds method
///   and [route](Self::route). There is no default: with one, two callers would share their keys.
///   `None` refuses with 401.
/// - **In order**: key (400), scope (401), body (413, 400), another request with this key (422), the
///   first one still running (409 with `Retry-After`, or a [wait](Self::wait_for_first)), the store
///   away (503, or unprotected, as the handle's policy says).
/// - **The handler runs in a task of its own**, which goes on when the caller goes; the handle
///   tracks it, and shutdown can wait for it. Task-locals do not reach it; the span does, and so do
///   the request's extensions. Its panic is raised again in the response future.
/// - **What becomes of the key** is said by [`StatusRule`]. An answer is kept with its status, its
///   [headers](ReplayedHeaders) and its exact bytes.
/// - **An answer that is too large, streamed or has trailers** passes as it comes, and the key
///   remembers that it was done: the same request again is refused with 409 and
///   `IDEMPOTENCY_ANSWER_NOT_KEPT`. It is never run again, and no key waits for a lease's end.
/// - **State** is the handle's: the layer may be applied anew for each connection, or twice. Of two
///   around one service the inner lets pass what the outer has taken.
/// - **Readiness.** The service that was polled ready is the one that is called. A replay does not
///   call it.
/// - **Dropping** the response future before the body was read leaves the key as it was; after
///   that the work goes on without it.
///
/// | knob | default |
/// | --- | --- |
/// | methods | POST, PATCH |
/// | key | needed; 1 to 255 characters |
/// | largest request body | 64 KiB |
/// | largest kept answer | the handle's longest outcome: 256 KiB |
/// | wait for the first | none |
/// | requests are kept, to be made again without their client | no |
///
/// It is cheap to clone, and has no state of its own.
#[derive(Clone)]
pub struct IdempotencyLayer {
    settings: Arc<Settings>,
}

type ScopeOf = dyn Fn(&Parts) -> Option<Scope> + Send + Sync;
type RouteOf = dyn Fn(&Parts) -> String + Send + Sync;
type OnlyIf = dyn Fn(&Parts) -> bool + Send + Sync;
type Respond = dyn Fn(HttpRefusal) -> Response<Bytes> + Send + Sync;
type Mark = dyn Fn(&mut Response<Bytes>) + Send + Sync;

/// What all services that a layer makes share.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) idempotency: Idempotency,
    pub(super) scope: Arc<ScopeOf>,
    pub(super) route: Arc<RouteOf>,
    pub(super) only_if: Option<Arc<OnlyIf>>,
    pub(super) methods: Vec<Method>,
    pub(super) key: KeyRule,
    pub(super) key_is_optional: bool,
    pub(super) fingerprint: FingerprintRule,
    pub(super) statuses: StatusRule,
    pub(super) headers: ReplayedHeaders,
    pub(super) largest_request: usize,
    pub(super) hold_streams: bool,
    pub(super) wait: Duration,
    pub(super) respond: Arc<Respond>,
    pub(super) mark: Option<Arc<Mark>>,
    pub(super) kept: Option<KeptRequests>,
}

impl IdempotencyLayer {
    /// The largest body of a request that is read, unless told otherwise: 64 KiB.
    pub const LARGEST_REQUEST: usize = 64 * 1024;

    /// For the keys of `idempotency`; `scope` says whose request it is: tenant and principal, from
    /// what a layer further out has established (an extension), not from what a caller may write
    /// as he likes.
    #[must_use]
    pub fn new(
        idempotency: Idempotency,
        scope: impl Fn(&Parts) -> Option<Scope> + Send + Sync + 'static,
    ) -> Self {
        let settings = Settings {
            idempotency,
            scope: Arc::new(scope),
            route: Arc::new(|head| head.uri.path().to_owned()),
            only_if: None,
            methods: vec![Method::POST, Method::PATCH],
            key: KeyRule::default(),
            key_is_optional: false,
            fingerprint: FingerprintRule::new(),
            statuses: StatusRule::new(),
            headers: ReplayedHeaders::all(),
            largest_request: Self::LARGEST_REQUEST,
            hold_streams: false,
            wait: Duration::ZERO,
            respond: Arc::new(|refusal| problem::render(&refusal)),
            mark: None,
            kept: None,
        };
        Self {
            settings: Arc::new(settings),
        }
    }

    /// For these methods.
    #[must_use]
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        let methods = methods.into_iter().collect();
        self.with(|settings| settings.methods = methods)
    }

    /// Only for requests of which `wanted` says so: by path, say. Others pass untouched.
    #[must_use]
    pub fn only_if(self, wanted: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.only_if = Some(Arc::new(wanted)))
    }

    /// Requests without a key pass untouched, instead of being refused.
    #[must_use]
    pub fn optional_key(self) -> Self {
        self.with(|settings| settings.key_is_optional = true)
    }

    /// Which keys are taken.
    #[must_use]
    pub fn key(self, rule: KeyRule) -> Self {
        self.with(|settings| settings.key = rule)
    }

    /// The name of a request's route, which becomes part of its key's scope. Unless told otherwise
    /// it is the path; with axum's template (`/orders/{id}`) a key that comes for another order is
    /// a mismatch instead of another key.
    #[must_use]
    pub fn route(self, route: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.route = Arc::new(route))
    }

    /// What must be the same for two requests to be one.
    #[must_use]
    pub fn fingerprint(self, rule: FingerprintRule) -> Self {
        self.with(|settings| settings.fingerprint = rule)
    }

    /// What becomes of a key by the status of its answer.
    #[must_use]
    pub fn statuses(self, rule: StatusRule) -> Self {
        self.with(|settings| settings.statuses = rule)
    }

    /// Which headers a replay has again.
    #[must_use]
    pub fn headers(self, rule: ReplayedHeaders) -> Self {
        self.with(|settings| settings.headers = rule)
    }

    /// The largest body of a request with a key, in bytes: it is read whole before the handler
    /// sees it. A larger one is refused with 413.
    #[must_use]
    pub fn largest_request(self, bytes: usize) -> Self {
        self.with(|settings| settings.largest_request = bytes)
    }

    /// Reads answers of unknown length, too, before they leave, up to the largest that is kept.
    /// Without it they are taken for streams, and not held back.
    #[must_use]
    pub fn hold_streams(self) -> Self {
        self.with(|settings| settings.hold_streams = true)
    }

    /// Waits so long for the first request to end, before 409.
    #[must_use]
    pub fn wait_for_first(self, most: Duration) -> Self {
        self.with(|settings| settings.wait = most)
    }

    /// How refusals leave. Unless told otherwise as a minimal problem (RFC 9457).
    #[must_use]
    pub fn respond_with(
        self,
        respond: impl Fn(HttpRefusal) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.respond = Arc::new(respond))
    }

    /// Changes each replay before it leaves: marks it for a layer further out, say.
    #[must_use]
    pub fn mark_replays(self, mark: impl Fn(&mut Response<Bytes>) + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.mark = Some(Arc::new(mark)))
    }

    /// Keeps requests with their keys, so that what its client has left, or its process, can be
    /// finished without him: by a [`completer`](Self::completer). In the statement that claims the
    /// key; removed when the key is completed or released. What cannot be kept is done all the same,
    /// and said by an event ([`NotKept`](crate::EventKind::NotKept)).
    ///
    /// Bodies are then at rest in the store, as they came unless they are
    /// [sealed](KeptRequests::sealed).
    ///
    /// # Errors
    ///
    /// [`IdempotencyError::NoRequests`], when the store keeps none: Redis.
    pub fn keep_requests(self, kept: KeptRequests) -> Result<Self, IdempotencyError> {
        if self.settings.idempotency.store().keeps() != Keeps::Requests {
            return Err(IdempotencyError::NoRequests);
        }
        Ok(self.with(|settings| settings.kept = Some(kept)))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> IdempotencyService<S> {
        IdempotencyService::new(inner, Arc::clone(&self.settings))
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("idempotency", &self.idempotency)
            .field("methods", &self.methods)
            .field("key", &self.key)
            .field("key_is_optional", &self.key_is_optional)
            .field("largest_request", &self.largest_request)
            .field("wait", &self.wait)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}
