//! Names that only one test uses.

use super::shared_url;

/// A server, and a name that no other test uses on it, for queues and exchanges.
///
/// What is made under it stays until the server ends, which a private one does with the test
/// binary: on a given one, make what deletes itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    url: String,
    name: String,
}

impl Name {
    /// How to reach the server. It has a password in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `buttress-test-` and 32 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.name.fmt(f)
    }
}

/// A fresh name on the server of [`shared_url`]; its first use may block for the seconds that a
/// server takes to start.
///
/// `None` when RabbitMQ is not there: the gap is then registered, and said on the run's last line,
/// so a test only has to return.
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
