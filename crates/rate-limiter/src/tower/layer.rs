//! A limit before any service.

use std::task::{Context, Poll};

use buttress_core::CallError;
use tower_layer::Layer;
use tower_service::Service;

use super::ResponseFuture;
use crate::RateLimiter;

/// Puts a limiter before a service. What is refused is `CallError::Rejected`, at once; nothing waits.
///
/// The limiter is the one it is made with: a layer that is applied anew for each connection, as axum does,
/// or to several services, shares its state everywhere.
///
/// Whether a call may be made is decided in `call`, before the inner service sees the request;
/// `poll_ready` only forwards.
///
/// ```
/// use buttress_rate_limiter::{Quota, RateLimiter, tower::RateLimitLayer};
///
/// let layer = RateLimitLayer::new(RateLimiter::new("carrier", Quota::per_second(10)?)?);
/// # drop(layer);
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    limiter: RateLimiter,
}

impl RateLimitLayer {
    /// A layer that asks this limiter.
    #[must_use]
    pub const fn new(limiter: RateLimiter) -> Self {
        Self { limiter }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        let limiter = self.limiter.clone();
        RateLimitService { inner, limiter }
    }
}

/// The service that [`RateLimitLayer`] makes.
#[derive(Clone, Debug)]
pub struct RateLimitService<S> {
    inner: S,
    limiter: RateLimiter,
}

impl<S: Service<Request>, Request> Service<Request> for RateLimitService<S> {
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(CallError::Failed)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.limiter.acquire() {
            Ok(_) => ResponseFuture::running(self.inner.call(request)),
            Err(rejection) => ResponseFuture::rejected(rejection),
        }
    }
}
