//! A limit before an HTTP service: by client, by route, with fields and a response of its own.

mod future;
mod rules;

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use tower_layer::Layer;
use tower_service::Service;

pub use self::{future::HttpResponseFuture, rules::Limits};
use self::{
    future::{Refusal, Tail},
    rules::{Asked, Route, Rules},
};
use crate::http::{Client, Fields, ProblemJson, Respond};

/// Puts limits before an HTTP service. A refusal is a response: 429 with `Retry-After`, by default a
/// minimal problem+json.
///
/// The limits are those it is made with: a layer that is applied anew for each connection, as axum does,
/// shares its state everywhere. `poll_ready` only forwards; who is refused never reaches the service.
///
/// One whose key cannot be told shares one key with all such others.
///
/// ```
/// use buttress_rate_limiter::{
///     KeyedRateLimiter, Quota,
///     http::{Client, Fields, Proxies},
///     tower::HttpRateLimitLayer,
/// };
///
/// let all = KeyedRateLimiter::new("all", Quota::per_second(20)?)?;
/// let logins = KeyedRateLimiter::new("logins", Quota::per_minute(5)?)?;
/// let layer = HttpRateLimitLayer::new(all, Client::address(Proxies::count(1)))
///     .route(|parts| parts.uri.path() == "/login", logins)
///     .fields(Fields::Draft10);
/// # drop(layer);
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
pub struct HttpRateLimitLayer<R = ProblemJson> {
    rules: Arc<Rules>,
    respond: Arc<R>,
}

impl HttpRateLimitLayer {
    /// Limits each client by `limits`.
    #[must_use]
    pub fn new(limits: impl Into<Limits>, client: Client) -> Self {
        Self {
            rules: Arc::new(Rules::new(limits.into(), client)),
            respond: Arc::new(ProblemJson::default()),
        }
    }
}

impl<R> HttpRateLimitLayer<R> {
    /// Requests that `matches` says are limited by `limits` instead. The first route that matches holds.
    #[must_use]
    pub fn route(
        mut self,
        matches: impl Fn(&Parts) -> bool + Send + Sync + 'static,
        limits: impl Into<Limits>,
    ) -> Self {
        let route = Route {
            matches: Arc::new(matches),
            limits: limits.into(),
        };
        self.rules_mut().routes.push(route);
        self
    }

    /// How many permits a request costs; 1 unless said otherwise. 0 is let through.
    #[must_use]
    pub fn cost(mut self, cost: impl Fn(&Parts) -> u64 + Send + Sync + 'static) -> Self {
        self.rules_mut().cost = Some(Arc::new(cost));
        self
    }

    /// Which fields responses get.
    #[must_use]
    pub fn fields(mut self, fields: Fields) -> Self {
        self.rules_mut().fields = fields;
        self
    }

    /// Refuses nothing: the limiters decide and count, and their observers hear of it.
    #[must_use]
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.rules_mut().shadow = shadow;
        self
    }

    /// What a refusal says.
    #[must_use]
    pub fn respond_with<O>(self, respond: O) -> HttpRateLimitLayer<O> {
        HttpRateLimitLayer {
            rules: self.rules,
            respond: Arc::new(respond),
        }
    }

    fn rules_mut(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.rules)
    }
}

impl<R> Clone for HttpRateLimitLayer<R> {
    fn clone(&self) -> Self {
        Self {
            rules: Arc::clone(&self.rules),
            respond: Arc::clone(&self.respond),
        }
    }
}

impl<R> fmt::Debug for HttpRateLimitLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRateLimitLayer")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl<S, R> Layer<S> for HttpRateLimitLayer<R> {
    type Service = HttpRateLimitService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpRateLimitService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service that [`HttpRateLimitLayer`] makes.
pub struct HttpRateLimitService<S, R = ProblemJson> {
    inner: S,
    layer: HttpRateLimitLayer<R>,
}

impl<S: Clone, R> Clone for HttpRateLimitService<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, R> fmt::Debug for HttpRateLimitService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRateLimitService")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl<S, R, B, ResponseBody> Service<Request<B>> for HttpRateLimitService<S, R>
where
    S: Service<Request<B>, Response = Response<ResponseBody>> + Clone,
    R: Respond<ResponseBody>,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = HttpResponseFuture<S, Request<B>, S::Future, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let rules = &self.layer.rules;
        let asked = rules.ask(&parts);
        let request = Request::from_parts(parts, body);
        let respond = Arc::clone(&self.layer.respond);
        match asked {
            Asked::Free => HttpResponseFuture::running(self.inner.call(request), None, respond),
            Asked::Decided { limits, decision } => {
                let tail = Tail::new(rules, &limits, decision);
                if tail.lets_through() {
                    let future = self.inner.call(request);
                    return HttpResponseFuture::running(future, Some(tail), respond);
                }
                HttpResponseFuture::refused(Refusal::limited(tail), respond)
            }
            Asked::Invalid(error) => HttpResponseFuture::refused(Refusal::error(error), respond),
            Asked::Deciding { limits, deciding } => {
                // The instance that was made ready is the one to be called.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                let rules = Arc::clone(rules);
                HttpResponseFuture::deciding(rules, limits, deciding, ready, request, respond)
            }
        }
    }
}
