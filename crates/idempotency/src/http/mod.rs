//! HTTP: the key in its header, the request's fingerprint, and the response as it is kept.
//!
//! The layer (feature `tower`) does all of it. What is here serves a handler that begins
//! and completes in its own transaction, and so must do the steps itself:
//! [`KeyRule::read`] the headers, [`FingerprintRule::of`] the request, keep a [`StoredResponse`] and
//! send it again.

mod codec;
mod fingerprint;
mod headers;
mod json;
#[cfg(feature = "tower")]
mod kept;
mod key;
mod refusal;
mod response;
mod status;

#[cfg(feature = "tower")]
pub(crate) use self::kept::KeptRequest;
pub use self::{
    codec::UnreadableRecord,
    fingerprint::FingerprintRule,
    headers::ReplayedHeaders,
    key::{IDEMPOTENCY_KEY, KeyRule, KeyRuleError},
    refusal::{HttpRefusal, KeyRefusal},
    response::{IDEMPOTENCY_REPLAYED, StoredResponse},
    status::{Keep, StatusRule},
};
