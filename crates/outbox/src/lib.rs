//! Provisional.

#[cfg(feature = "webhook")]
pub mod webhook;
