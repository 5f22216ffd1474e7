//! Provisional door.
#[cfg(feature = "http")]
pub mod http;
