//! The details of a google.rpc.Status that we know (`google/rpc/error_details.proto`).

use std::{collections::BTreeMap, time::Duration};

/// Why it failed, for programs: `reason` within `domain`, and what is variable about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorInfo {
    reason: String,
    domain: String,
    metadata: BTreeMap<String, String>,
}

/// What AIP-193 does not allow in an [`ErrorInfo`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidErrorInfo {
    /// A reason that is not `[A-Z][A-Z0-9_]+[A-Z0-9]`, or has more than 63 characters.
    #[error("`{0}` is no reason: up to 63 of A-Z, 0-9 and _, first a letter, last no _")]
    Reason(String),
    /// A key that is not `[a-z][a-zA-Z0-9-_]+`, or has more than 64 characters.
    #[error("`{0}` is no key: up to 64 of letters, digits, - and _, first one of a-z")]
    Key(String),
}

impl ErrorInfo {
    /// # Errors
    ///
    /// When `reason` is none by AIP-193.
    pub fn new(
        reason: impl Into<String>,
        domain: impl Into<String>,
    ) -> Result<Self, InvalidErrorInfo> {
        let reason = reason.into();
        if !is_reason(&reason) {
            return Err(InvalidErrorInfo::Reason(reason));
        }
        Ok(Self {
            reason,
            domain: domain.into(),
            metadata: BTreeMap::new(),
        })
    }

    /// The same with one more entry; the last of one key stands.
    ///
    /// # Errors
    ///
    /// When `key` is none by AIP-193.
    pub fn with_metadata(
        mut self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, InvalidErrorInfo> {
        let key = key.into();
        if !is_key(&key) {
            return Err(InvalidErrorInfo::Key(key));
        }
        self.metadata.insert(key, value.into());
        Ok(self)
    }

    /// The stable name of why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// To which service's catalogue the reason belongs; empty if that was not said.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What is variable about it.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// `[A-Z][A-Z0-9_]+[A-Z0-9]`, at most 63.
pub(super) fn is_reason(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let [first, middle @ .., last] = text.as_bytes() else {
        return false;
    };
    first.is_ascii_uppercase()
        && !middle.is_empty()
        && middle.iter().copied().all(inner)
        && inner(*last)
        && *last != b'_'
        && text.len() <= 63
}

/// `[a-z][a-zA-Z0-9-_]+`, at most 64.
pub(super) fn is_key(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let [first, rest @ ..] = text.as_bytes() else {
        return false;
    };
    first.is_ascii_lowercase() && !rest.is_empty() && rest.iter().all(inner) && text.len() <= 64
}

/// What is wrong with the request's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the message has this one field")]
pub struct BadRequest {
    /// Each field that is wrong.
    pub violations: Vec<FieldViolation>,
}

/// One field that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldViolation {
    /// Its path: `items[0].quantity`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
    /// The stable name for that, or nothing.
    pub reason: String,
}

impl FieldViolation {
    /// About this field.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
            reason: String::new(),
        }
    }
}

/// When to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the message has this one field")]
pub struct RetryInfo {
    /// So long to wait at least.
    pub delay: Duration,
}

/// What state the system should be in first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the message has this one field")]
pub struct PreconditionFailure {
    /// Each condition that does not hold.
    pub violations: Vec<PreconditionViolation>,
}

/// One condition that does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreconditionViolation {
    /// Its kind: `TOS`, say.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// How it does not hold.
    pub description: String,
}

impl PreconditionViolation {
    /// Of this kind, about this subject.
    pub fn new(
        kind: impl Into<String>,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        Self {
            kind: kind.into(),
            subject: subject.into(),
            description: description.into(),
        }
    }
}

/// What only developers may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DebugInfo {
    /// The chain of causes.
    pub detail: String,
}

impl DebugInfo {
    /// With this chain of causes.
    pub fn new(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
        }
    }
}
