//! The sending side: signatures for a message.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::Mac;

use super::{Secret, SecretsError, SignError, id, secrets::Secrets};

/// Signs what is sent to one endpoint, with each of its secrets. Cheap to clone.
///
/// More than one secret is for the time in which a secret is changed: the new one first, the old
/// one after it, until the receiver has the new one.
#[derive(Clone, Debug)]
pub struct Signer {
    secrets: Secrets,
}

impl Signer {
    /// A signer with these secrets, 1 to 8.
    ///
    /// # Errors
    ///
    /// When there are none, or more than 8.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Result<Self, SecretsError> {
        let secrets = Secrets::new(secrets)?;
        Ok(Self { secrets })
    }

    /// Signs a message that is sent `now`. The same message sent again has the same id, another
    /// time, and so another signature.
    ///
    /// # Errors
    ///
    /// When `id` is empty, longer than 255 bytes, or has anything in it but visible ASCII
    /// characters other than the full stop; when `now` is before 1970.
    pub fn sign(&self, id: &str, now: SystemTime, body: &[u8]) -> Result<Signed, SignError> {
        if !id::is_fit(id) {
            return Err(SignError::Id);
        }
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let timestamp = since.map_err(|_| SignError::Time)?.as_secs().to_string();
        let mut signature = String::with_capacity(self.secrets.len() * 48);
        for secret in self.secrets.iter() {
            if !signature.is_empty() {
                signature.push(' ');
            }
            signature.push_str("v1,");
            let code = secret.mac(id, &timestamp, body).finalize();
            STANDARD.encode_string(code.as_bytes(), &mut signature);
        }
        Ok(Signed {
            timestamp,
            signature,
        })
    }
}

/// The two fields that are made for one sending; the third, [`ID`](super::ID), is the message's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    timestamp: String,
    signature: String,
}

impl Signed {
    /// The value of [`TIMESTAMP`](super::TIMESTAMP).
    #[must_use]
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// The value of [`SIGNATURE`](super::SIGNATURE).
    #[must_use]
    pub fn signature(&self) -> &str {
        &self.signature
    }
}
