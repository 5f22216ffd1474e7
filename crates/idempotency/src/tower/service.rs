//! The service: decides by the head what is none of its business.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{Redriven, RequestBody, ResponseBody, ResponseFuture, exchange, layer::Settings};
use crate::{Key, http::KeyRefusal};

/// The service that [`IdempotencyLayer`](super::IdempotencyLayer) makes.
#[derive(Clone)]
pub struct IdempotencyService<S> {
    inner: S,
    settings: Arc<Settings>,
}

/// Marks a request that a layer further out has taken.
#[derive(Clone, Copy)]
pub(super) struct Taken;

impl<S> IdempotencyService<S> {
    pub(super) const fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S: Clone> IdempotencyService<S> {
    /// The one that was polled goes with the call, and a clone stays for the next.
    fn ready(&mut self) -> (S, Arc<Settings>) {
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        (ready, Arc::clone(&self.settings))
    }
}

impl Settings {
    /// The key of this request; `None` when it is to pass untouched.
    fn key_of<B>(&self, request: &Request<B>) -> Result<Option<Key>, KeyRefusal> {
        if !self.methods.contains(request.method()) || request.extensions().get::<Taken>().is_some()
        {
            return Ok(None);
        }
        if self.key_is_optional {
            self.key.read(request.headers())
        } else {
            self.key.require(request.headers()).map(Some)
        }
    }
}

impl<S, B, R> Service<Request<B>> for IdempotencyService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
    R: Body<Data = Bytes> + Unpin + Send + 'static,
    R::Error: Send,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(redriven) = request.extensions().get::<Redriven>().cloned() {
            // Whose key it was is whose it is; for any other layer it is as it was before.
            let Some(guard) = redriven.take_for(&self.settings) else {
                let request = request.map(RequestBody::passing);
                return ResponseFuture::passing(self.inner.call(request));
            };
            let (ready, settings) = self.ready();
            let again = exchange::again(ready, settings, redriven, guard, request);
            return ResponseFuture::taken(again);
        }
        let (head, body) = request.into_parts();
        if self
            .settings
            .only_if
            .as_ref()
            .is_some_and(|wanted| !wanted(&head))
        {
            let request = Request::from_parts(head, RequestBody::passing(body));
            return ResponseFuture::passing(self.inner.call(request));
        }
        let request = Request::from_parts(head, body);
        let key = match self.settings.key_of(&request) {
            Ok(Some(key)) => key,
            Ok(None) => {
                let request = request.map(RequestBody::passing);
                return ResponseFuture::passing(self.inner.call(request));
            }
            Err(refusal) => {
                let refused = (self.settings.respond)(refusal.into());
                return ResponseFuture::refused(refused.map(ResponseBody::whole));
            }
        };
        let (ready, settings) = self.ready();
        let (head, body) = request.into_parts();
        ResponseFuture::taken(exchange::answer(ready, settings, key, head, body))
    }
}

impl<S> fmt::Debug for IdempotencyService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyService")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
