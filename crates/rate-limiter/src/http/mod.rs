//! HTTP: who a client is, what a refusal says, and the fields that tell of limits.

mod client;
mod fields;
mod respond;

pub use self::{
    client::{Client, Forwarding, Proxies},
    fields::{Fields, PolicyField, RateLimitField, write_retry_after},
    respond::{ProblemJson, Respond},
};
