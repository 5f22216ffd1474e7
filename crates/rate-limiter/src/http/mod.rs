//! HTTP: who a client is, what a refusal says, and the fields that tell of limits.

mod client;
mod fields;
mod respond;

#[cfg(feature = "tower")]
pub(crate) use self::fields::write_retry_after;
pub use self::{
    client::{Client, Forwarding, Proxies},
    fields::{Fields, PolicyField, RateLimitField},
    respond::{ProblemJson, Respond},
};
