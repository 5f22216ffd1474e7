//! Keys that only one test uses.

use super::shared_url;

/// A server, and a prefix of keys that no other test uses on it.
///
/// Its keys stay until they expire or the server ends: a private one ends with the test binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    url: String,
    prefix: String,
}

impl Prefix {
    /// How to reach the server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `buttress-test-`, 32 hexadecimal digits, and a colon.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.prefix
    }
}

/// A fresh prefix on the server of [`shared_url`]; its first use may block for the moment that a
/// server takes to start.
///
/// `None` when Redis is not there: the gap is then registered, and said on the run's last line, so
/// a test only has to return.
#[must_use]
pub fn fresh_prefix() -> Option<Prefix> {
    match shared_url() {
        Ok(url) => Some(Prefix {
            url,
            prefix: format!("buttress-test-{:032x}:", rand::random::<u128>()),
        }),
        Err(left_out) => {
            left_out.register();
            None
        }
    }
}
