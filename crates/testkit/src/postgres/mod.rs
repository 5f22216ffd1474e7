//! Postgres: a server of one's own, one for the whole test binary, a fresh database a test.
//!
//! A test that only needs a database takes a fresh one (`fresh_database`, with the feature
//! `postgres`); a test that restarts or kills the server starts its own [`Server`].

#[cfg(feature = "postgres")]
mod database;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

#[cfg(feature = "postgres")]
pub use self::database::{Database, fresh_database};
pub use crate::start_error::StartError;
use crate::{
    left_out::LeftOut,
    programs::{self, NotFound},
    shared::Shared,
    supervisor::{self, Description, Starting, Supervised, processes},
    tally::{self, Counting, Store},
};

/// The variable that gives the tests a server. Theirs is then a user who may create databases.
pub const URL_VARIABLE: &str = "BUTTRESS_TEST_POSTGRES_URL";

static SHARED: Shared<Server> = Shared::new("PostgreSQL", URL_VARIABLE, Store::Postgres);

/// The only user of a private server. He is trusted without a password.
const USER: &str = "postgres";

/// What every private server is run with, beside its port.
///
/// Without fsync nothing is proven about power loss, and no test claims to; what was committed
/// still survives the server's own death by any signal. Full page writes stay on: a kill can tear
/// a page of 8 KiB between two of the system's.
/// Its shared memory segments are files in its directory, so that a kill leaves none in /dev/shm.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    // The path of a socket may not exceed 107 bytes, and that of a temporary directory may.
    "unix_socket_directories=",
    "dynamic_shared_memory_type=mmap",
    "fsync=off",
    // For tests of commits in two phases.
    "max_prepared_transactions=10",
    "max_connections=200",
    "timezone=UTC",
];

/// The folder with `postgres` and its `initdb`, both of one installation: the one in `PATH`, or
/// else the newest of Debian's.
///
/// # Errors
///
/// [`NotFound`] when Postgres is not installed.
pub fn find() -> Result<PathBuf, NotFound> {
    let debian = Path::new("/usr/lib/postgresql");
    let mut places = programs::versioned(debian, "bin");
    if places.is_empty() {
        // For the message: it says where one was looked for.
        places.push(debian.join("*/bin"));
    }
    programs::find("postgres", &["initdb"], &places)
}

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
    SHARED.url(Server::start, |server| server.url("postgres"))
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// When all sessions have ended by themselves.
    Smart,
    /// In order: sessions are ended, their transactions rolled back.
    Fast,
    /// At once, as in a crash: the next start recovers.
    Immediate,
}

/// A private server on a free port of 127.0.0.1, in a directory of its own.
///
/// It ends with this value or this process, whichever goes first. Dropping it waits for its end.
#[derive(Debug)]
pub struct Server {
    supervised: Supervised,
}

impl Server {
    /// Makes an empty cluster (UTF-8, locale C) and starts a server on it. Blocks until it
    /// accepts connections: a second or two.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of the server's log where there is one.
    pub fn start() -> Result<Self, StartError> {
        let programs = find()?;
        let supervised = Supervised::start(|port| describe(&programs, port))?;
        tally::uses(Store::Postgres);
        Ok(Self { supervised })
    }

    /// How to reach its `database`; there is one called `postgres` from the beginning.
    /// The name goes into the URL as it is.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let port = self.supervised.port();
        format!("postgres://{USER}@127.0.0.1:{port}/{database}")
    }

    /// Stops it, and waits for its end. One that has ended already is left alone.
    ///
    /// # Panics
    ///
    /// When it is still there a minute later.
    pub fn stop(&self, stop: Stop) {
        self.supervised.stop_by(match stop {
            Stop::Smart => Signal::SIGTERM,
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
        });
    }

    /// Kills it and all its backends by SIGKILL, and waits for their end. What was committed is
    /// found again after [`restart`](Self::restart).
    ///
    /// # Panics
    ///
    /// When one is still there a minute later.
    pub fn kill(&self) {
        let pid = self.supervised.directory().join("data/postmaster.pid");
        let segment = fs::read_to_string(pid).ok();
        self.supervised.kill();
        // A few bytes of System V memory by which it knows of a sibling: nothing but a restart
        // or this takes them away, and a test may not restart it.
        let segment = segment.as_deref().and_then(|file| file.lines().nth(6));
        if let Some(id) = segment.and_then(|line| line.split_whitespace().nth(1)) {
            // Without the program a segment stays.
            let _ = Command::new("ipcrm")
                .args(["-m", id])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }

    /// Kills one backend by SIGKILL: the one whose number its session learns from
    /// `pg_backend_pid()`. The server then ends all sessions, recovers, and goes on by itself.
    ///
    /// # Panics
    ///
    /// When that is no process of this server's, or the system refuses.
    pub fn kill_backend(&self, backend: u32) {
        assert!(
            processes::descendants(self.pid()).contains(&backend),
            "{backend} is no backend of this server"
        );
        if let Err(error) = processes::send(backend, Signal::SIGKILL) {
            panic!("no SIGKILL for {backend}: {error}");
        }
        Counting::here().kill();
    }

    /// Starts it again on the same cluster and port, and waits until it accepts connections: a
    /// quarter of a second, or what its recovery takes. One that still runs is stopped before, at
    /// once.
    ///
    /// # Errors
    ///
    /// [`supervisor::StartError`], with the end of the server's log.
    pub fn restart(&self) -> Result<(), supervisor::StartError> {
        self.supervised.restart()
    }

    /// The server's first process: another one after a restart.
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

fn describe(programs: &Path, port: u16) -> Description {
    let mut arguments = vec![
        "-D".to_owned(),
        "data".into(),
        "-p".into(),
        port.to_string(),
    ];
    for setting in SETTINGS {
        arguments.extend(["-c".into(), setting.into()]);
    }
    Description::new("postgres", is_ready)
        .stop_signal("QUIT")
        .step(
            programs.join("initdb"),
            [
                "--pgdata=data",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
        )
        .step(programs.join("postgres"), arguments)
}

/// The server's own pid file says who it is and how far; `pg_ctl` waits for the same word.
fn is_ready(starting: &Starting<'_>) -> bool {
    fs::read_to_string(starting.directory().join("data/postmaster.pid")).is_ok_and(|file| {
        let mut lines = file.lines();
        lines.next() == Some(&starting.pid().to_string())
            && lines.nth(6).is_some_and(|it| it.trim() == "ready")
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::TcpListener};

    use super::*;

    #[test]
    fn a_taken_port_is_exchanged_for_another() {
        let programs = match find() {
            Ok(programs) => programs,
            Err(not_found) => return SHARED.left_out(&not_found).register(),
        };
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().port();
        let tried = Cell::new(0);
        let server = Supervised::start(|free| {
            tried.set(tried.get() + 1);
            describe(&programs, if tried.get() == 1 { taken } else { free })
        })
        .unwrap();
        assert_eq!(tried.get(), 2);
        assert_ne!(server.port(), taken);
    }
}
