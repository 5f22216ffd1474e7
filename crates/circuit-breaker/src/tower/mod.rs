//! A layer around any service.

mod future;
mod lanes;
mod layer;
mod waiting;

pub use self::{
    future::ResponseFuture,
    layer::{CircuitBreakerLayer, CircuitBreakerService},
    waiting::{WaitingFuture, WaitingLayer, WaitingService},
};
