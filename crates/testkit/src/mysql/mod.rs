//! MySQL's protocol, by MariaDB: a server of one's own, one for the whole test binary, a fresh database a test.
//!
//! A test that only needs a database takes a fresh one (`fresh_database`, with the feature
//! `mysql`); a test that restarts or kills the server starts its own [`Server`].

#[cfg(feature = "mysql")]
mod database;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

#[cfg(feature = "mysql")]
pub use self::database::{Database, fresh_database};
pub use crate::start_error::StartError;
use crate::{
    left_out::LeftOut,
    programs::{self, NotFound},
    shared::Shared,
    supervisor::{self, Description, Starting, Supervised},
    tally::{self, Store},
};

/// The variable that gives the tests a server. Theirs is then a user who may create databases.
pub const URL_VARIABLE: &str = "BUTTRESS_TEST_MYSQL_URL";

static SHARED: Shared<Server> = Shared::new("MySQL", URL_VARIABLE, Store::Mysql);

/// What every private server is run with, beside its port; the same while its tables are made.
///
/// Nothing waits for the disk, so nothing is proven about power loss, and no test claims to; the
/// log of each commit is handed to the system, so what was committed survives the server's own
/// death by any signal.
const SETTINGS: [&str; 7] = [
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--default-time-zone=+00:00",
    "--character-set-server=utf8mb4",
    "--skip-name-resolve",
];

/// The programs of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Programs {
    /// `mariadbd`.
    pub server: PathBuf,
    /// `mariadb-install-db`, which makes the tables of a new server.
    pub install: PathBuf,
}

/// The programs of MariaDB: those in `PATH`, or else Debian's.
///
/// # Errors
///
/// [`NotFound`] when MariaDB is not installed.
pub fn find() -> Result<Programs, NotFound> {
    let [server, install] = [
        ("mariadbd", "/usr/sbin"),
        // Debian has it in another folder than the server, of the same version all the same.
        ("mariadb-install-db", "/usr/bin"),
    ]
    .map(|(name, place)| {
        programs::find(name, &[], &[place.into()]).map(|folder| folder.join(name))
    });
    Ok(Programs {
        server: server?,
        install: install?,
    })
}

/// The server that [`URL_VARIABLE`] names, or else one of this test binary's own, which is
/// started at first use (blocking, for some seconds) and ends with the process.
///
/// # Errors
///
/// [`LeftOut`] when none is given and MariaDB is not installed; it is for the caller to register.
///
/// # Panics
///
/// When MariaDB is installed and does not start: that is a failure, not something to leave out.
pub fn shared_url() -> Result<String, LeftOut> {
    SHARED.url(Server::start, |server| server.url("mysql"))
}

/// A private server on a free port of 127.0.0.1, in a directory of its own.
///
/// It ends with this value or this process, whichever goes first. Dropping it waits for its end.
/// Its only user is `root`, who has no password.
#[derive(Debug)]
pub struct Server {
    supervised: Supervised,
}

impl Server {
    /// Makes a server's tables and starts a server on them. Blocks until it accepts connections:
    /// some seconds.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of the server's log where there is one.
    pub fn start() -> Result<Self, StartError> {
        let programs = find()?;
        let supervised = Supervised::start(|port| describe(&programs, port))?;
        tally::uses(Store::Mysql);
        Ok(Self { supervised })
    }

    /// How to reach its `database`; there is one called `mysql` from the beginning, which is the
    /// server's own. The name goes into the URL as it is.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let port = self.supervised.port();
        format!("mysql://root@127.0.0.1:{port}/{database}")
    }

    /// Stops it in order, and waits for its end. One that has ended already is left alone.
    ///
    /// # Panics
    ///
    /// When it is still there a minute later.
    pub fn stop(&self) {
        self.supervised.stop();
    }

    /// Kills it by SIGKILL, and waits for its end. What was committed is found again after
    /// [`restart`](Self::restart).
    ///
    /// # Panics
    ///
    /// When it is still there a minute later.
    pub fn kill(&self) {
        self.supervised.kill();
    }

    /// Starts it again on the same data and port, and waits until it accepts connections. One that
    /// still runs is stopped in order before.
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

fn describe(programs: &Programs, port: u16) -> Description {
    // mariadbd lies in the folder sbin or bin of its installation, which has what it reads.
    let base = programs.server.ancestors().nth(2).unwrap_or(Path::new("/"));
    let base = format!("--basedir={}", base.display());
    let port = format!("--port={port}");
    // First of all: it is read before all other arguments or refused.
    let first = ["--no-defaults", &base];
    let install = ["--auth-root-authentication-method=normal", "--skip-test-db"];
    let serve = [
        &port,
        "--bind-address=127.0.0.1",
        // Seen from the data's folder: the path of a socket may not exceed 107 bytes.
        "--socket=socket",
        "--pid-file=pid",
        "--max-connections=200",
    ];
    // Relative paths would be taken from the installation's folder. The folder for temporary tables
    // is its own: a server that starts removes whatever temporary tables it finds in its folder, and
    // in a shared one those are another server's, which is just starting too and dies of it.
    let script = r#"mkdir -p tmp && TMPDIR="$PWD/tmp" exec "$@" --datadir="$PWD/data""#;
    let words = |program: &Path, own: &[&str]| {
        let arguments = first.iter().chain(&SETTINGS).chain(own);
        let mut words = ["-c", script, "here"].map(OsString::from).to_vec();
        words.push(program.into());
        words.extend(arguments.map(OsString::from));
        words
    };
    Description::new("mariadb", is_ready)
        .account("mysql")
        .step("/bin/sh", words(&programs.install, &install))
        .step("/bin/sh", words(&programs.server, &serve))
}

fn is_ready(starting: &Starting<'_>) -> bool {
    starting.has_said("ready for connections")
}
