//! One layer around an HTTP service: a request that comes again with its key is answered with the
//! first answer.

mod body;
mod capture;
mod exchange;
mod future;
mod handed;
mod kept;
mod layer;
mod problem;
mod redrive;
mod redriven;
mod service;

pub use self::{
    body::{RequestBody, ResponseBody},
    future::ResponseFuture,
    handed::Idempotent,
    kept::{KeptRequests, Seal},
    layer::IdempotencyLayer,
    redriven::Redriven,
    service::IdempotencyService,
};
