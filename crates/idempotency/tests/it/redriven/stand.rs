//! A shop whose orders need two phases, and whose process is lost between them.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use buttress_idempotency::{
    Idempotency, Scope,
    store::Store,
    tower::{IdempotencyLayer, Idempotent, KeptRequests, Redriven},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tower::{Service, ServiceExt as _, service_fn, util::BoxCloneSyncService};

use crate::http::stand::{Answer, answer, post, whole};

/// Who asks, as authentication has found him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller(pub(super) String);

/// Ann asks for this.
pub(super) fn asked(key: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = post(key, body);
    let ann = Caller("ann".into());
    request.extensions_mut().insert(ann);
    request
}

/// Keeps who asks, too.
pub(super) fn kept(driver: &'static str) -> KeptRequests {
    let kept = KeptRequests::new(driver).unwrap();
    kept.caller(
        |head| {
            let Caller(name) = head.extensions.get()?;
            Some(Bytes::copy_from_slice(name.as_bytes()))
        },
        |name, head| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            head.extensions.insert(Caller(name));
            true
        },
    )
}

/// The scope is the caller's name; who has none is nobody.
pub(super) fn plain(idempotency: Idempotency) -> IdempotencyLayer {
    IdempotencyLayer::new(idempotency, |head| {
        let Caller(name) = head.extensions.get()?;
        Some(Scope::of([name]))
    })
}

pub(super) fn layer(store: impl Store + 'static, kept: KeptRequests) -> IdempotencyLayer {
    let plain = plain(Idempotency::new(store));
    plain.keep_requests(kept).unwrap()
}

pub(super) async fn ask<S, B>(service: S, request: Request<Full<Bytes>>) -> Answer
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    match service.oneshot(request).await {
        Ok(response) => whole(response).await,
        Err(never) => match never {},
    }
}

pub(super) type Boxed<B> = BoxCloneSyncService<Request<B>, Response<Full<Bytes>>, Infallible>;

#[derive(Clone, Default)]
pub(super) struct Shop {
    runs: Arc<AtomicU32>,
    effects: [Arc<AtomicU32>; 2],
}

impl Shop {
    /// How often a handler was run.
    pub(super) fn runs(&self) -> u32 {
        self.runs.load(SeqCst)
    }

    /// Rides and charges.
    pub(super) fn effects(&self) -> [u32; 2] {
        [0, 1].map(|at| self.effects[at].load(SeqCst))
    }

    /// Passes its first phase for a client, and is lost (500); then the second, and answers.
    pub(super) fn service<B: Send + 'static>(&self) -> Boxed<B> {
        self.answering(|again| answer(if again { 200 } else { 500 }, "order 1"))
    }

    /// The same, that answers so: to a client, and when it is made again.
    pub(super) fn answering<B: Send + 'static>(
        &self,
        answer: impl Fn(bool) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
    ) -> Boxed<B> {
        let shop = self.clone();
        BoxCloneSyncService::new(service_fn(move |request: Request<B>| {
            let (shop, answer) = (shop.clone(), answer.clone());
            let again = request.extensions().get::<Redriven>().is_some();
            let handed: Idempotent = request.extensions().get().cloned().unwrap();
            async move {
                shop.runs.fetch_add(1, SeqCst);
                Ok(match shop.work(&handed, again).await {
                    Some(()) => answer(again),
                    None => self::answer(500, "the store is away"),
                })
            }
        }))
    }

    async fn work(&self, handed: &Idempotent, again: bool) -> Option<()> {
        assert!(handed.resumed() || !again);
        let mut guard = handed.take()?;
        for (at, phase) in ["ride", "charge"].into_iter().enumerate() {
            if at == 1 && !again {
                break;
            }
            if guard.passed::<()>(phase).unwrap().is_none() {
                self.effects[at].fetch_add(1, SeqCst);
                guard.phase(phase, &()).await.ok()?;
            }
        }
        handed.give_back(guard);
        Some(())
    }
}

pub(super) fn with_retry_after(mut answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let wait = HeaderValue::from_static("3600");
    answer.headers_mut().insert("retry-after", wait);
    answer
}
