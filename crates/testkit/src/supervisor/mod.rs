//! A server program in a directory of its own: both are gone when this process is.
//!
//! The server runs under a small shell script, whose standard input is a pipe that only we hold.
//! When we go, by return, panic, Ctrl-C or `kill -9`, the pipe ends; the script stops the server,
//! kills it if it does not stop, and removes the directory. The directory is made by the script
//! as well, so there is no moment at which nobody would remove it.
//!
//! A root does not run servers: the script and the server run as the account that the server's
//! Debian package makes, or as `nobody`. Everybody else runs them as himself.

mod description;
pub(crate) mod processes;
mod shell;
mod start_error;
mod starting;

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

pub use self::{description::Description, start_error::StartError, starting::Starting};
use self::{
    shell::{Shell, Told},
    starting::{log_length, log_tail},
};
use crate::tally::Counting;

/// How long a server may take from its first step until it is ready.
const START: Duration = Duration::from_secs(60);
/// How often a starting server is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// How many ports are tried, when others take them between our look and the server's.
const PORTS: u32 = 5;
/// What the script waits for before it runs a server once more.
const AGAIN: &str = "again";

/// A server that runs, is ready, and ends with this value or this process, whichever goes first.
///
/// Dropping it stops the server, removes its directory, and waits for both. Its methods block.
#[derive(Debug)]
pub struct Supervised {
    shell: Shell,
    description: Description,
    directory: PathBuf,
    port: u16,
    state: Mutex<State>,
}

/// What is known of the server's process.
#[derive(Debug)]
struct State {
    told: Receiver<Told>,
    pid: u32,
    runs: bool,
}

impl Supervised {
    /// Starts the server that `describe` describes for a port of 127.0.0.1 that is free, and
    /// returns once it is ready. Blocks for as long as that takes, a minute at most.
    ///
    /// Another may take the port before the server does; then it is done again with another one.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left behind.
    pub fn start(describe: impl Fn(u16) -> Description) -> Result<Self, StartError> {
        let mut left = PORTS;
        loop {
            left -= 1;
            // Port 0 asks the system for a free one, which is free again at the line's end.
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .and_then(|listener| listener.local_addr())
                .map_err(|source| StartError::Supervisor {
                    name: "a server",
                    source,
                })?
                .port();
            let description = describe(port);
            let in_use = description.address_in_use;
            match Self::start_once(description, port) {
                Err(StartError::Ended { log, .. }) if left > 0 && log.contains(in_use) => {}
                other => return other,
            }
        }
    }

    fn start_once(description: Description, port: u16) -> Result<Self, StartError> {
        let (shell, told) = Shell::spawn(&description)?;
        let mut said = String::new();
        let directory = loop {
            match told.recv_timeout(START) {
                Ok(Told::Directory(path)) => break path,
                Ok(Told::Said(line)) => said = line,
                _ => {
                    let name = description.name;
                    return Err(StartError::Directory { name, said });
                }
            }
        };
        let mut state = State {
            told,
            pid: 0,
            runs: false,
        };
        state.become_ready(&description, &directory, 0)?;
        Ok(Self {
            shell,
            description,
            directory,
            port,
            state: Mutex::new(state),
        })
    }

    /// Stops the server in order, and waits for its end. One that has ended already is left alone.
    ///
    /// # Panics
    ///
    /// When it is still there a minute later.
    pub fn stop(&self) {
        let signal = format!("SIG{}", self.description.stop_signal);
        match signal.parse() {
            Ok(signal) => self.stop_by(signal),
            Err(_) => panic!("no such signal: {signal}"),
        }
    }

    /// The same by another signal than the one that it was described with.
    pub(crate) fn stop_by(&self, signal: Signal) {
        let mut state = self.state();
        if state.still_runs() {
            self.send(state.pid, signal);
            self.has_ended(&mut state, &[]);
        }
    }

    /// Kills the server and all its processes by SIGKILL, and waits for their end. Its directory
    /// stays as they left it. One that has ended already is left alone.
    ///
    /// # Panics
    ///
    /// When one is still there a minute later.
    pub fn kill(&self) {
        let mut state = self.state();
        if !state.still_runs() {
            return;
        }
        Counting::here().kill();
        // Stopped first: it has no further children after we looked.
        self.send(state.pid, Signal::SIGSTOP);
        let descendants = processes::descendants(state.pid);
        for pid in [state.pid].iter().chain(&descendants) {
            self.send(*pid, Signal::SIGKILL);
        }
        self.has_ended(&mut state, &descendants);
    }

    /// Starts the server again in the same directory, with the same arguments and port, and returns
    /// once it is ready. One that still runs is stopped in order before.
    ///
    /// # Errors
    ///
    /// [`StartError`]; the directory stays, and it may be tried again.
    ///
    /// # Panics
    ///
    /// When the server runs and does not stop within a minute.
    pub fn restart(&self) -> Result<(), StartError> {
        self.stop();
        let deadline = Instant::now() + START;
        let mut state = self.state();
        loop {
            let log_start = log_length(&self.directory);
            fs::write(self.directory.join(AGAIN), "").map_err(|source| StartError::Supervisor {
                name: self.description.name,
                source,
            })?;
            match state.become_ready(&self.description, &self.directory, log_start) {
                // The system may have lent its port to somebody's outgoing connection meanwhile.
                Err(StartError::Ended { log, .. })
                    if log.contains(self.description.address_in_use)
                        && Instant::now() < deadline => {}
                other => return other,
            }
        }
    }

    /// Has it stand still, and waits until it does.
    pub(crate) fn pause(&self) {
        let state = self.state();
        self.send(state.pid, Signal::SIGSTOP);
        let deadline = Instant::now() + START;
        while !processes::is_stopped(state.pid) {
            let name = self.description.name;
            assert!(Instant::now() < deadline, "{name} does not stand still");
            thread::sleep(PROBE_EVERY / 4);
        }
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.send(self.state().pid, Signal::SIGCONT);
    }

    /// The directory in which it was started, with all that is its own. It belongs to the account
    /// that runs it, and nobody else may look into it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The port of 127.0.0.1 that it was described for.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The server's process: the last one, when it was restarted.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.state().pid
    }

    /// The supervisor's process.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.shell.pid()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, pid: u32, signal: Signal) {
        if let Err(error) = processes::send(pid, signal) {
            panic!("no {signal} for {}: {error}", self.description.name);
        }
    }

    /// Waits for the end of the server, and of `others`, whose parent it was.
    fn has_ended(&self, state: &mut State, others: &[u32]) {
        let deadline = Instant::now() + START;
        while state.still_runs() || others.iter().any(|pid| processes::runs(*pid)) {
            assert!(
                Instant::now() < deadline,
                "{} does not end",
                self.description.name
            );
            thread::sleep(PROBE_EVERY / 4);
        }
    }
}

impl State {
    /// Whether the server runs, by what the script has told until now.
    fn still_runs(&mut self) -> bool {
        while let Ok(told) = self.told.try_recv() {
            if matches!(told, Told::Ended { .. }) {
                self.runs = false;
            }
        }
        self.runs
    }

    /// Waits until the server is ready; its log of this start begins at `log_start`.
    fn become_ready(
        &mut self,
        description: &Description,
        directory: &Path,
        log_start: u64,
    ) -> Result<(), StartError> {
        let name = description.name;
        let deadline = Instant::now() + START;
        loop {
            match self.told.recv_timeout(PROBE_EVERY) {
                Ok(Told::Server(pid)) => {
                    self.pid = pid;
                    self.runs = true;
                }
                Ok(Told::Ended { status, program }) => {
                    self.runs = false;
                    let log = log_tail(directory);
                    return Err(StartError::Ended {
                        name,
                        program,
                        status,
                        log,
                    });
                }
                Ok(Told::Directory(_) | Told::Said(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let source = io::ErrorKind::BrokenPipe.into();
                    return Err(StartError::Supervisor { name, source });
                }
            }
            let pid = self.pid;
            let starting = Starting {
                directory,
                pid,
                log_start,
            };
            if self.runs && (description.ready)(&starting) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = log_tail(directory);
                return Err(StartError::Late { name, log });
            }
        }
    }
}
