//! Receives webhooks: a layer that lets through only those that are believed.

mod capture;
mod error;
mod future;
mod layer;
mod respond;
mod seen;

pub use self::{
    error::Refusal,
    future::ResponseFuture,
    layer::{Webhook, WebhookLayer, WebhookService},
    seen::Seen,
};
