//! Webhooks by [Standard Webhooks 1.0](https://www.standardwebhooks.com): signing and verifying.
//!
//! A webhook carries three fields: `webhook-id`, the same however often it is sent,
//! `webhook-timestamp`, the Unix seconds of this sending, and `webhook-signature`, which is made
//! over the literal text of both and the bytes of the body. What is not among these three, such as
//! a `ce-` field of CloudEvents' binary mode, is **not signed**.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use buttress_outbox::webhook::{Fields, Secret, Signer, Verifier};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
//! let sent = SystemTime::UNIX_EPOCH + Duration::from_secs(1_614_265_330);
//! let signed = Signer::new([secret.clone()])?.sign("msg_1", sent, b"{}")?;
//!
//! let verifier = Verifier::new([secret])?;
//! let fields = Fields::new("msg_1", signed.timestamp(), signed.signature());
//! assert!(verifier.verify_at(fields, b"{}", sent).is_ok());
//! assert!(verifier.verify_at(fields, b"{ }", sent).is_err());
//! # Ok(())
//! # }
//! ```

mod error;
mod id;
mod schedule;
mod secret;
mod secrets;
mod sign;
mod verify;
#[cfg(any(feature = "http", feature = "tower"))]
mod wall;

#[cfg(any(feature = "http", feature = "tower"))]
pub(crate) use self::wall::WallClock;
pub use self::{
    error::{SecretError, SecretsError, SignError, VerifyError},
    schedule::{ATTEMPTS, retry_schedule},
    secret::Secret,
    sign::{Signed, Signer},
    verify::{Fields, Verified, Verifier},
};

/// The field with the id of the message: the same however often it is sent.
pub const ID: &str = "webhook-id";
/// The field with the time of this sending, in Unix seconds.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The field with the signatures, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";
