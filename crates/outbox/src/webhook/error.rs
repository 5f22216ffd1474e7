//! Why a secret, a message or a webhook is refused. None of them repeats what it was given.

use std::borrow::Cow;

use buttress_core::Fault;

/// A secret that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It is no base64.
    #[error("a webhook secret is written `whsec_` and base64")]
    Encoding,
    /// It is too short to be secret, or too long.
    #[error("a webhook secret has 24 to 64 bytes")]
    Length,
    /// It is a key of the asymmetric scheme, `v1a`, which is not spoken here.
    #[error(
        "a key that begins with whsk_ or whpk_ is for asymmetric signatures; give a whsec_ one"
    )]
    Asymmetric,
}

/// There are no secrets, or more than 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there must be 1 to 8 webhook secrets")]
pub struct SecretsError {
    pub(super) _private: (),
}

/// A message that cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// Its id does not fit a header field, or could be cut at another place.
    #[error("a webhook's id has 1 to 255 visible ASCII characters, and no full stop among them")]
    Id,
    /// The clock is wrong.
    #[error("a webhook's time is not before 1970")]
    Time,
}

/// A webhook that is not believed.
///
/// What the sender did wrong is said to him (a missing field, a wrong clock), what would help a
/// forger is not: no secret, no expected signature, no part of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// One of the three fields is not there.
    #[error("the webhook has no field {0}")]
    Missing(&'static str),
    /// One of the three fields is there twice, is too long, or is written wrongly.
    #[error("the webhook's field {0} is malformed")]
    Malformed(&'static str),
    /// It was sent too long ago: it is late, or somebody sends it once more.
    #[error("the webhook's time is too long ago")]
    TooOld,
    /// It was sent in the future: one of the clocks is wrong.
    #[error("the webhook's time is too far ahead")]
    TooNew,
    /// No signature of a kind that is understood here is right.
    #[error("none of the webhook's signatures is right")]
    Signature,
}

impl Fault for VerifyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::Malformed(_) => "WEBHOOK_MALFORMED",
            Self::TooOld | Self::TooNew => "WEBHOOK_TIME",
            Self::Signature => "WEBHOOK_SIGNATURE",
        }
    }

    /// 400 where the fields cannot be read, and 401 otherwise.
    fn status(&self) -> u16 {
        match self {
            Self::Missing(_) | Self::Malformed(_) => 400,
            Self::TooOld | Self::TooNew | Self::Signature => 401,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Missing(field) => format!("The field {field} is missing.").into(),
            Self::Malformed(field) => format!("The field {field} cannot be read.").into(),
            Self::TooOld | Self::TooNew => {
                "The webhook's timestamp is too far from the time here.".into()
            }
            Self::Signature => "The webhook's signature is not accepted.".into(),
        }
    }
}
