//! axum: the layer with a route's template, and what a handler is handed as an extractor.

use axum::extract::{FromRequestParts, MatchedPath, OptionalFromRequestParts};
use http::{StatusCode, request::Parts};

use crate::{
    Idempotency, Scope,
    tower::{IdempotencyLayer, Idempotent},
};

impl IdempotencyLayer {
    /// As [`new`](Self::new), where a route is its template (`/orders/{id}`), for a layer that is
    /// added with `Router::layer` or `route_layer`: a key that comes for another order is a
    /// mismatch. Outside of a router it is the path.
    ///
    /// ```
    /// use axum::{Router, routing::post};
    /// use buttress_idempotency::{
    ///     Idempotency, Scope, store::MemoryStore, tower::{Idempotent, IdempotencyLayer},
    /// };
    ///
    /// /// Whom authentication found, further out.
    /// #[derive(Clone)]
    /// struct Caller(String);
    ///
    /// async fn place(key: Idempotent, order: String) -> String {
    ///     let charge = key.key().derive("charge"); // for the payment service
    ///     format!("{order}, charged under {charge}")
    /// }
    ///
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// let layer = IdempotencyLayer::for_axum(idempotency, |head| {
    ///     let Caller(name) = head.extensions.get()?;
    ///     Some(Scope::of([name]))
    /// });
    /// let app: Router = Router::new().route("/orders", post(place)).layer(layer);
    /// ```
    #[must_use]
    pub fn for_axum(
        idempotency: Idempotency,
        scope: impl Fn(&Parts) -> Option<Scope> + Send + Sync + 'static,
    ) -> Self {
        Self::new(idempotency, scope).route(|head| {
            let template = head.extensions.get::<MatchedPath>();
            template
                .map_or(head.uri.path(), MatchedPath::as_str)
                .to_owned()
        })
    }
}

/// Rejects with 500 where there is no layer, or it let the request pass: a mistake in the program.
impl<S: Sync> FromRequestParts<S> for Idempotent {
    type Rejection = StatusCode;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let handed = head.extensions.get().cloned();
        handed.ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// `None` where the request passed untouched: it had no key, say, and needed none.
impl<S: Sync> OptionalFromRequestParts<S> for Idempotent {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        head: &mut Parts,
        _: &S,
    ) -> Result<Option<Self>, std::convert::Infallible> {
        Ok(head.extensions.get().cloned())
    }
}
