//! Why a server did not start.

use std::io;

use nix::errno::Errno;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is neither the server's own account nor `nobody`, and we are root.
    #[error("no account to run {name} as")]
    Account {
        /// The server.
        name: &'static str,
        /// What the system said.
        source: Errno,
    },
    /// No port, pipe or process to be had.
    #[error("no supervisor for {name}")]
    Supervisor {
        /// The server.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Neither `TMPDIR` nor `/tmp` takes a directory of the server's.
    #[error("no directory for {name}: {said}")]
    Directory {
        /// The server.
        name: &'static str,
        /// What the shell said.
        said: String,
    },
    /// One of its programs ended.
    #[error("{program} ended with status {status} while {name} was starting; its log ends:\n{log}")]
    Ended {
        /// The server.
        name: &'static str,
        /// The program of the step that failed.
        program: String,
        /// Its exit status, or 128 and the signal that ended it.
        status: String,
        /// The end of the log.
        log: String,
    },
    /// It runs, but was not ready within a minute.
    #[error("{name} was not ready within a minute; its log ends:\n{log}")]
    Late {
        /// The server.
        name: &'static str,
        /// The end of the log.
        log: String,
    },
}
