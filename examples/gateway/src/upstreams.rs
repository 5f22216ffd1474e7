//! The upstreams of a route, as one service: each attempt goes to the next one that is not kept back
//! by its breaker, with a limit on how long its answer may take to begin.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use buttress_circuit_breaker::CircuitBreaker;
use buttress_core::{CallError, Registry};
use bytes::Bytes;
use http::{Request, Response, Uri, header, uri::Authority};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::Service;

use crate::{answer::ByAnswer, config::Route, failure::AttemptFailed, hops};

#[derive(Clone, Debug)]
struct Target {
    authority: Authority,
    breaker: CircuitBreaker,
}

/// Sends a request to one of the upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Upstreams {
    client: Client<HttpConnector, Body>,
    targets: Arc<[Target]>,
    /// Who is next. Instances that are cloned for each request share it.
    next: Arc<AtomicUsize>,
    attempt: Duration,
}

impl Upstreams {
    pub(crate) fn new(route: &Route, registry: &Registry) -> anyhow::Result<Self> {
        let mut targets = Vec::new();
        for upstream in &route.upstreams {
            let uri: Uri = upstream.parse()?;
            let authority = uri.into_parts().authority;
            let authority = authority.ok_or_else(|| anyhow::anyhow!("{upstream} has no host"))?;
            let breaker = CircuitBreaker::builder(upstream.clone())
                .policy(route.breaker.clone())
                .registry(registry);
            targets.push(Target {
                authority,
                breaker: breaker.build(),
            });
        }
        let client = Client::builder(TokioExecutor::new())
            .http2_only(route.http2)
            .build_http();
        Ok(Self {
            client,
            targets: targets.into(),
            next: Arc::default(),
            attempt: Duration::from_millis(route.attempt_ms),
        })
    }

    /// The next in turn whose breaker lets calls through; when there is none, the next in turn, whose
    /// breaker then says when to come back.
    fn pick(&self) -> &Target {
        let turn = self.next.fetch_add(1, Relaxed);
        let (before, after) = self.targets.split_at(turn % self.targets.len());
        let mut in_turn = after.iter().chain(before);
        let open = |target: &&Target| target.breaker.retry_after().is_some();
        in_turn
            .clone()
            .find(|target| !open(target))
            .or_else(|| in_turn.next())
            .unwrap_or(&self.targets[0])
    }
}

impl<B> Service<Request<B>> for Upstreams
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = Response<Body>;
    type Error = CallError<AttemptFailed>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let target = self.pick().clone();
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |it| it.as_str());
        let uri = Uri::builder()
            .scheme("http")
            .authority(target.authority)
            .path_and_query(path);
        let uri = uri.build();
        hops::strip(&mut parts.headers);
        // The client writes the upstream's.
        parts.headers.remove(header::HOST);
        let (client, limit) = (self.client.clone(), self.attempt);
        Box::pin(async move {
            let attempt = async {
                parts.uri = uri.map_err(AttemptFailed::request)?;
                parts.version = http::Version::default();
                let sent = client.request(Request::from_parts(parts, Body::new(body)));
                match tokio::time::timeout(limit, sent).await {
                    Ok(answer) => answer.map_err(AttemptFailed::Transport),
                    Err(_) => Err(AttemptFailed::TimedOut),
                }
            };
            let mut response = target.breaker.call(attempt).by(ByAnswer).await?;
            hops::strip(response.headers_mut());
            Ok(response.map(Body::new))
        })
    }
}
