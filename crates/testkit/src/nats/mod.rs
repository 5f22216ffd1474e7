//! NATS with JetStream: a server of one's own, one for the whole test binary, a name that only one
//! test uses.
//!
//! A test that only needs a stream takes a [`fresh_name`]; a test that fills, restarts or kills the
//! server starts its own [`Server`].

mod name;

use std::path::{Path, PathBuf};

pub use self::name::{Name, fresh_name};
pub use crate::start_error::StartError;
use crate::{
    left_out::LeftOut,
    programs::{self, NotFound},
    shared::Shared,
    supervisor::{self, Description, Supervised},
    tally::{self, Store},
};

/// The variable that gives the tests a server, with JetStream on.
pub const URL_VARIABLE: &str = "BUTTRESS_TEST_NATS_URL";

static SHARED: Shared<Server> = Shared::new("NATS", URL_VARIABLE, Store::Nats);

/// What every private server is run with, beside its port.
const SETTINGS: [&str; 5] = ["--addr", "127.0.0.1", "--jetstream", "--store_dir", "."];

/// The server's program: the one in `PATH`, or else Debian's.
///
/// # Errors
///
/// [`NotFound`] when NATS is not installed.
pub fn find() -> Result<PathBuf, NotFound> {
    let name = "nats-server";
    let places = ["/usr/sbin".into(), "/usr/bin".into()];
    programs::find(name, &[], &places).map(|folder| folder.join(name))
}

/// The server that [`URL_VARIABLE`] names, or else one of this test binary's own, which is
/// started at first use (blocking, for a fifth of a second) and ends with the process.
///
/// # Errors
///
/// [`LeftOut`] when none is given and NATS is not installed; it is for the caller to register.
///
/// # Panics
///
/// When NATS is installed and does not start: that is a failure, not something to leave out.
pub fn shared_url() -> Result<String, LeftOut> {
    SHARED.url(Server::start, Server::url)
}

/// A private server on a free port of 127.0.0.1, in a directory of its own, with JetStream.
///
/// It ends with this value or this process, whichever goes first. Dropping it waits for its end.
#[derive(Debug)]
pub struct Server {
    supervised: Supervised,
}

impl Server {
    /// Starts one. Blocks until it accepts connections.
    ///
    /// What it has acknowledged to a stream in files survives its own death by any signal: it is
    /// written, though not flushed to the disk, so of power loss no test may say anything.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of the server's log where there is one.
    pub fn start() -> Result<Self, StartError> {
        let program = find()?;
        let supervised = Supervised::start(|port| {
            let port = port.to_string();
            let arguments = ["--port", &port].into_iter().chain(SETTINGS);
            Description::new("nats", |starting| starting.has_said("Server is ready"))
                .step(&program, arguments)
                .address_in_use("address already in use")
        })?;
        tally::uses(Store::Nats);
        Ok(Self { supervised })
    }

    /// How to reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.supervised.port())
    }

    /// Stops it in order, and waits for its end. One that has ended already is left alone.
    ///
    /// # Panics
    ///
    /// When it is still there a minute later.
    pub fn stop(&self) {
        self.supervised.stop();
    }

    /// Kills it by SIGKILL, and waits for its end.
    ///
    /// # Panics
    ///
    /// When it is still there a minute later.
    pub fn kill(&self) {
        self.supervised.kill();
    }

    /// Has it stand still, by SIGSTOP: connections stay, and nothing is read from them.
    ///
    /// # Panics
    ///
    /// When it has ended, or does not stand still within a minute.
    pub fn pause(&self) {
        self.supervised.pause();
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.supervised.resume();
    }

    /// Starts it again on the same directory and port, and waits until it is ready. One that still
    /// runs is stopped in order before.
    ///
    /// # Errors
    ///
    /// [`supervisor::StartError`], with the end of the server's log.
    pub fn restart(&self) -> Result<(), supervisor::StartError> {
        self.supervised.restart()
    }

    /// The server's process: another one after a restart.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.supervised.pid()
    }

    /// Its directory, which goes when it goes. The file `log` in it is the server's.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.supervised.directory()
    }
}
