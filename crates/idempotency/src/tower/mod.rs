//! One layer around an HTTP service: a request that comes again with its key is answered with the
//! first answer.

mod body;
mod capture;
mod exchange;
mod future;
mod handed;
mod layer;
mod problem;
mod service;

pub use self::{
    body::{RequestBody, ResponseBody},
    future::ResponseFuture,
    handed::Idempotent,
    layer::IdempotencyLayer,
    service::IdempotencyService,
};
