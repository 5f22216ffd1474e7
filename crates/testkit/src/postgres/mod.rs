//! Postgres: a server of one's own, one for the whole test binary, a fresh database a test.
//!
//! A test that only needs a database takes a fresh one (`fresh_database`, with the feature
//! `postgres`); a test that restarts or kills the server starts its own [`Server`].

#[cfg(feature = "postgres")]
mod database;
mod shared;

use std::{
    fs,
    path::{Path, PathBuf},
};

#[cfg(feature = "postgres")]
pub use self::database::{Database, fresh_database};
pub use self::shared::{URL_VARIABLE, shared_url};
use crate::{
    programs::{self, NotFound},
    supervisor::{self, Description, Supervised},
};

/// The only user of a private server. He is trusted without a password.
const USER: &str = "postgres";

/// What every private server is run with, beside its port.
///
/// Without fsync nothing is proven about power loss, and no test claims to; what was committed
/// still survives the server's own death by any signal.
/// Its shared memory segments are files in its directory, so that a kill leaves none in /dev/shm.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    // The path of a socket may not exceed 107 bytes, and that of a temporary directory may.
    "unix_socket_directories=",
    "dynamic_shared_memory_type=mmap",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "timezone=UTC",
];

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It is not installed.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// It is, and did not start.
    #[error(transparent)]
    NotStarted(#[from] supervisor::StartError),
}

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
        Ok(Self { supervised })
    }

    /// How to reach its `database`; there is one called `postgres` from the beginning.
    /// The name goes into the URL as it is.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let port = self.supervised.port();
        format!("postgres://{USER}@127.0.0.1:{port}/{database}")
    }

    /// The server's first process, whose signals stop it: `INT` fast, `QUIT` at once.
    #[must_use]
    pub const fn pid(&self) -> u32 {
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

/// The last line of the server's own pid file says how far it is; `pg_ctl` waits for the same word.
fn is_ready(directory: &Path) -> bool {
    fs::read_to_string(directory.join("data/postmaster.pid"))
        .is_ok_and(|file| file.lines().nth(7).is_some_and(|it| it.trim() == "ready"))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::TcpListener};

    use super::*;

    #[test]
    fn a_taken_port_is_exchanged_for_another() {
        let programs = match find() {
            Ok(programs) => programs,
            Err(not_found) => return shared::left_out(&not_found).register(),
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
