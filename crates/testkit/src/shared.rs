//! The server that all tests of one binary share.

use std::{env, sync::OnceLock};

use crate::{
    left_out::LeftOut,
    programs::NotFound,
    start_error::StartError,
    tally::{self, Store},
};

/// A server that is given by the environment, or started at first use. Lives in a static.
pub(crate) struct Shared<S> {
    /// What it is called where it is missing.
    name: &'static str,
    variable: &'static str,
    store: Store,
    own: OnceLock<Result<S, NotFound>>,
}

impl<S> Shared<S> {
    pub(crate) const fn new(name: &'static str, variable: &'static str, store: Store) -> Self {
        Self {
            name,
            variable,
            store,
            own: OnceLock::new(),
        }
    }

    /// The URL that the environment gives, or else that of the server which `start` starts, once.
    ///
    /// Panics when it is installed and does not start: that is a failure, not something to leave
    /// out.
    pub(crate) fn url(
        &self,
        start: impl FnOnce() -> Result<S, StartError>,
        url: impl FnOnce(&S) -> String,
    ) -> Result<String, LeftOut> {
        if let Some(given) = env::var(self.variable).ok().filter(|url| !url.is_empty()) {
            tally::uses(self.store);
            return Ok(given);
        }
        let own = self
            .own
            .get_or_init(|| match start() {
                Ok(server) => Ok(server),
                Err(StartError::NotFound(not_found)) => Err(not_found),
                Err(StartError::NotStarted(error)) => panic!("{error}"),
            })
            .as_ref()
            .map_err(|not_found| self.left_out(not_found))?;
        tally::uses(self.store);
        Ok(url(own))
    }

    pub(crate) fn left_out(&self, not_found: &NotFound) -> LeftOut {
        let variable = self.variable;
        LeftOut::new(
            format!("tests on {}", self.name),
            format!(
                "{not_found}; `cargo xtask servers --install` installs it, {variable} gives one"
            ),
        )
    }
}
