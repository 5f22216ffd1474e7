//! A layer around any service.

mod future;
mod lanes;
mod layer;

pub use self::{
    future::ResponseFuture,
    layer::{CircuitBreakerLayer, CircuitBreakerService},
};
