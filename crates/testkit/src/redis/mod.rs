//! Redis: a server of one's own, one for the whole test binary, keys that only one test uses.
//!
//! A test that only needs keys takes a [`fresh_prefix`]; a test that flushes, fills, restarts or
//! kills the server starts its own [`Server`]; one for which slots matter, a [`Cluster`].

mod cluster;
mod prefix;

use std::path::{Path, PathBuf};

pub use self::{
    cluster::Cluster,
    prefix::{Prefix, fresh_prefix},
};
pub use crate::start_error::StartError;
use crate::{
    left_out::LeftOut,
    programs::{self, NotFound},
    shared::Shared,
    supervisor::{self, Description, Supervised},
    tally::{self, Store},
};

/// The variable that gives the tests a server.
pub const URL_VARIABLE: &str = "BUTTRESS_TEST_REDIS_URL";

static SHARED: Shared<Server> = Shared::new("Redis", URL_VARIABLE, Store::Redis);

/// How many ports a cluster's node tries for its talk with the others.
const BUS_PORTS: u32 = 3;

/// What every private server is run with, beside its port.
const SETTINGS: [(&str, &str); 7] = [
    ("--bind", "127.0.0.1"),
    ("--dir", "."),
    // No snapshots: it remembers what its log has, if it keeps one, and nothing else.
    ("--save", ""),
    ("--daemonize", "no"),
    ("--supervised", "no"),
    // A replica gets its copy at once, not when others may have come for theirs as well.
    ("--repl-diskless-sync-delay", "0"),
    ("--databases", "16"),
];

/// The server's program: the one in `PATH`, or else Debian's.
///
/// # Errors
///
/// [`NotFound`] when Redis is not installed.
pub fn find() -> Result<PathBuf, NotFound> {
    // Not where a link leads: Debian has several programs in one file, which go by their name.
    let name = "redis-server";
    programs::find(name, &[], &["/usr/bin".into()]).map(|folder| folder.join(name))
}

/// The server that [`URL_VARIABLE`] names, or else one of this test binary's own, which is
/// started at first use (blocking, for a fifth of a second) and ends with the process.
///
/// # Errors
///
/// [`LeftOut`] when none is given and Redis is not installed; it is for the caller to register.
///
/// # Panics
///
/// When Redis is installed and does not start: that is a failure, not something to leave out.
pub fn shared_url() -> Result<String, LeftOut> {
    SHARED.url(Server::start, Server::url)
}

/// A private server on a free port of 127.0.0.1, in a directory of its own.
///
/// It ends with this value or this process, whichever goes first. Dropping it waits for its end.
#[derive(Debug)]
pub struct Server {
    supervised: Supervised,
    /// Where a cluster's nodes talk to it; 0 for one that is no node.
    bus_port: u16,
}

impl Server {
    /// Starts one that forgets everything when it ends. Blocks until it accepts connections.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of the server's log where there is one.
    pub fn start() -> Result<Self, StartError> {
        Self::start_with(&["--appendonly", "no"], "Ready to accept connections")
    }

    /// Starts one that writes each change into its log (AOF) before it answers: what it has
    /// acknowledged survives its own death by any signal.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_appending() -> Result<Self, StartError> {
        let settings = ["--appendonly", "yes", "--appendfsync", "always"];
        Self::start_with(&settings, "Ready to accept connections")
    }

    /// Starts a replica of this server, and waits until it has its first copy. It refuses writes,
    /// and follows: asynchronously, so what was acknowledged may be missing from it.
    ///
    /// It goes on without this server, looking for it on the same port.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_replica(&self) -> Result<Self, StartError> {
        let port = self.supervised.port().to_string();
        let settings = ["--appendonly", "no", "--replicaof", "127.0.0.1", &port];
        Self::start_with(&settings, "MASTER <-> REPLICA sync: Finished with success")
    }

    /// Starts a node of a cluster, which knows no other yet and serves no slot.
    fn start_as_node() -> Result<Self, StartError> {
        let mut left = BUS_PORTS;
        loop {
            left -= 1;
            let bus_port =
                cluster::bus_port().map_err(|source| supervisor::StartError::Supervisor {
                    name: "redis",
                    source,
                })?;
            let bus = bus_port.to_string();
            let settings = [
                "--appendonly",
                "no",
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                "nodes.conf",
                "--cluster-port",
                &bus,
            ];
            match Self::start_with(&settings, "Ready to accept connections") {
                // Somebody may have been faster to take it.
                Err(StartError::NotStarted(supervisor::StartError::Ended { .. })) if left > 0 => {}
                Err(error) => return Err(error),
                Ok(node) => return Ok(Self { bus_port, ..node }),
            }
        }
    }

    /// For clients, and for a cluster's nodes.
    const fn ports(&self) -> (u16, u16) {
        (self.supervised.port(), self.bus_port)
    }

    fn start_with(settings: &[&str], ready: &'static str) -> Result<Self, StartError> {
        let program = find()?;
        let supervised = Supervised::start(|port| {
            let port = port.to_string();
            let common = SETTINGS.iter().flat_map(|(name, value)| [*name, *value]);
            let arguments = ["--port", &port].into_iter().chain(common);
            Description::new("redis", move |starting| starting.has_said(ready))
                .step(&program, arguments.chain(settings.iter().copied()))
        })?;
        tally::uses(Store::Redis);
        Ok(Self {
            supervised,
            bus_port: 0,
        })
    }

    /// How to reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.supervised.port())
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
