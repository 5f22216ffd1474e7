//! A name for streams, consumers and subjects that only one test uses.

use super::shared_url;

/// A server, and a name that no other test uses on it.
///
/// A stream stays until the test deletes it or the server ends: a private one ends with the test
/// binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    url: String,
    name: String,
}

impl Name {
    /// How to reach the server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `buttress-test-` and 32 hexadecimal digits: a stream's name, and one token of a subject.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// A fresh name on the server of [`shared_url`]; its first use may block for the moment that a
/// server takes to start.
///
/// `None` when NATS is not there: the gap is then registered, and said on the run's last line, so
/// a test only has to return.
#[must_use]
pub fn fresh_name() -> Option<Name> {
    match shared_url() {
        Ok(url) => Some(Name {
            url,
            name: format!("buttress-test-{:032x}", rand::random::<u128>()),
        }),
        Err(left_out) => {
            left_out.register();
            None
        }
    }
}
