//! The secrets that are valid at one time.

use std::sync::Arc;

use super::{Secret, SecretsError};

/// How many there may be: each costs a hash of the body for each message.
const MOST: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Secrets(Arc<[Secret]>);

impl Secrets {
    pub(super) fn new(secrets: impl IntoIterator<Item = Secret>) -> Result<Self, SecretsError> {
        let secrets: Arc<[Secret]> = secrets.into_iter().take(MOST + 1).collect();
        match secrets.len() {
            1..=MOST => Ok(Self(secrets)),
            _ => Err(SecretsError { _private: () }),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
