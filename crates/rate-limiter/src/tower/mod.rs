//! Layers: one for any service, and one for HTTP that knows clients, routes and fields.

mod future;
#[cfg(feature = "http")]
mod http;
mod layer;

#[cfg(feature = "http")]
pub use self::http::{HttpRateLimitLayer, HttpRateLimitService, HttpResponseFuture, Limits};
pub use self::{
    future::ResponseFuture,
    layer::{RateLimitLayer, RateLimitService},
};
