//! A service with an effect, and the layer around it.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_idempotency::{
    Idempotency, Policy, Scope,
    store::MemoryStore,
    tower::{IdempotencyLayer, RequestBody},
};
use buttress_store::LeaseTerms;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt};

pub(crate) type Asked = Request<RequestBody<Full<Bytes>>>;

/// A handle whose leases are of a second, and how often a handler was run.
#[derive(Clone)]
pub(crate) struct Stand {
    pub(crate) idempotency: Idempotency,
    runs: Arc<AtomicU32>,
}

/// An answer that has come in full.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Stand {
    pub(crate) fn new() -> Self {
        Self::on(
            Idempotency::builder(MemoryStore::new())
                .policy(short())
                .build(),
        )
    }

    /// With leases of half a minute: for what runs in real time, on a machine that may be slow.
    pub(crate) fn patient() -> Self {
        Self::on(Idempotency::new(MemoryStore::new()))
    }

    pub(crate) fn on(idempotency: Idempotency) -> Self {
        Self {
            idempotency,
            runs: Arc::default(),
        }
    }

    /// How often a handler was run.
    pub(crate) fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    /// Counts one more run, and says which it is.
    pub(crate) fn run(&self) -> u32 {
        self.runs.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The caller is who his `x-caller` says, and `nobody` is nobody.
    pub(crate) fn layer(&self) -> IdempotencyLayer {
        IdempotencyLayer::new(self.idempotency.clone(), |head| {
            let caller = head.headers.get("x-caller");
            let caller = caller.map_or(&b"anyone"[..], |caller| caller.as_bytes());
            (caller != b"nobody").then(|| Scope::of([caller]))
        })
    }

    /// A service that answers with this status and the number of its run.
    pub(crate) fn answering(
        &self,
        status: u16,
    ) -> impl Service<Asked, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static {
        let stand = self.clone();
        tower::service_fn(move |_: Asked| {
            let run = stand.run();
            async move { Ok(answer(status, &format!("run {run}"))) }
        })
    }
}

/// Leases of a second and no longer, so that a test need not wait for one of half a minute.
pub(crate) fn short() -> Policy {
    let lease = LeaseTerms::new(Duration::from_secs(1)).unwrap();
    let policy = Policy::builder().lease(lease.with_ceiling(1).unwrap());
    policy.build().unwrap()
}

pub(crate) fn answer(status: u16, body: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("x-answer", "1");
    response.body(Full::from(body.to_owned())).unwrap()
}

/// A POST of `body` to `/orders` with this key.
pub(crate) fn post(key: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::post("/orders").header("idempotency-key", key);
    let request = request.header("content-type", "application/json");
    request.body(Full::from(body.to_owned())).unwrap()
}

/// What `service` answers through `layer`.
pub(crate) async fn ask<S, B>(
    layer: &IdempotencyLayer,
    service: S,
    request: Request<Full<Bytes>>,
) -> Answer
where
    S: Service<Asked, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug + Send> + Unpin + Send + 'static,
{
    match layer.layer(service).oneshot(request).await {
        Ok(response) => whole(response).await,
        Err(never) => match never {},
    }
}

pub(crate) async fn whole<B>(response: Response<B>) -> Answer
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (head, body) = response.into_parts();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

impl Answer {
    pub(crate) fn is_replay(&self) -> bool {
        self.headers.contains_key("idempotency-replayed")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The code of a refusal, checked to be a problem of the same status.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["status"], self.status);
        assert!(StatusCode::from_u16(self.status).unwrap().as_u16() >= 400);
        body["code"].as_str().unwrap().to_owned()
    }

    /// The `Retry-After`, in seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let value = self.headers.get("retry-after")?;
        Some(value.to_str().unwrap().parse().unwrap())
    }
}
