//! Ready-made judges of what well-known clients return, for breaker and retry alike: each behind a
//! feature of its own.

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "tonic")]
pub mod tonic;
