#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "circuit-breaker")]
pub use buttress_circuit_breaker as circuit_breaker;
pub use buttress_core as core;
#[cfg(feature = "error-envelope")]
pub use buttress_error_envelope as error_envelope;
#[cfg(feature = "idempotency")]
pub use buttress_idempotency as idempotency;
#[cfg(feature = "outbox")]
pub use buttress_outbox as outbox;
#[cfg(feature = "rate-limiter")]
pub use buttress_rate_limiter as rate_limiter;
#[cfg(feature = "retry-backoff")]
pub use buttress_retry_backoff as retry_backoff;
#[cfg(feature = "saga")]
pub use buttress_saga as saga;
#[cfg(feature = "store")]
pub use buttress_store as store;

#[cfg(all(
    feature = "axum",
    feature = "http",
    feature = "patterns",
    feature = "sqlite",
    feature = "tower"
))]
pub mod tour;
