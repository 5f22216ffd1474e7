//! The server that all tests of one binary share.

use std::{env, sync::OnceLock};

use super::{Server, StartError};
use crate::{left_out::LeftOut, programs::NotFound};

/// The variable that gives the tests a server. Theirs is then a user who may create databases.
pub const URL_VARIABLE: &str = "BUTTRESS_TEST_POSTGRES_URL";

static OWN: OnceLock<Result<Server, NotFound>> = OnceLock::new();

/// The server that [`URL_VARIABLE`] names, or else one of this test binary's own, which is
/// started at first use (blocking, for a second or two) and ends with the process.
///
/// # Errors
///
/// [`LeftOut`] when none is given and Postgres is not installed; it is for the caller to
/// register.
///
/// # Panics
///
/// When Postgres is installed and does not start: that is a failure, not something to leave out.
pub fn shared_url() -> Result<String, LeftOut> {
    if let Some(given) = env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty()) {
        return Ok(given);
    }
    OWN.get_or_init(|| match Server::start() {
        Ok(server) => Ok(server),
        Err(StartError::NotFound(not_found)) => Err(not_found),
        Err(StartError::NotStarted(error)) => panic!("{error}"),
    })
    .as_ref()
    .map(|server| server.url("postgres"))
    .map_err(left_out)
}

pub(super) fn left_out(not_found: &NotFound) -> LeftOut {
    LeftOut::new(
        "tests on PostgreSQL",
        format!(
            "{not_found}; `cargo xtask servers --install` installs it, {URL_VARIABLE} gives one"
        ),
    )
}
