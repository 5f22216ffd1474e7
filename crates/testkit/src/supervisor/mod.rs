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
mod start_error;

use std::{
    env, fs, io,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

pub use self::{description::Description, start_error::StartError};
use crate::account;

const SCRIPT: &str = include_str!("supervise.sh");
/// How long a server may take from its first step until it is ready.
const START: Duration = Duration::from_secs(60);
/// How often a starting server is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// How often, at a distance of 50 ms, a server is asked to stop before it is killed.
const STOP_TRIES: u32 = 100;
/// How many ports are tried, when others take them between our look and the server's.
const PORTS: u32 = 5;
/// How much of the end of a log an error shows, in bytes.
const LOG_TAIL: u64 = 4096;

/// What the script tells.
enum Told {
    Directory(PathBuf),
    Server(u32),
    Ended { status: String, program: String },
    Said(String),
}

impl Told {
    fn read(line: String) -> Self {
        let (word, rest) = line.split_once(' ').unwrap_or_default();
        match (word, rest.parse(), rest.split_once(' ')) {
            ("directory", ..) => Self::Directory(rest.into()),
            ("server", Ok(pid), _) => Self::Server(pid),
            ("ended", _, Some((status, program))) => Self::Ended {
                status: status.into(),
                program: program.into(),
            },
            _ => Self::Said(line),
        }
    }
}

/// A server that runs, is ready, and ends with this value or this process, whichever goes first.
///
/// Dropping it stops the server, removes its directory, and waits for both.
#[derive(Debug)]
pub struct Supervised {
    shell: Shell,
    directory: PathBuf,
    port: u16,
    pid: u32,
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
            match Self::start_once(&description, port) {
                Err(StartError::Ended { log, .. })
                    if left > 0 && log.contains(description.address_in_use) => {}
                other => return other,
            }
        }
    }

    fn start_once(description: &Description, port: u16) -> Result<Self, StartError> {
        let name = description.name;
        let (shell, told) = Shell::spawn(description)?;
        let deadline = Instant::now() + START;
        let (mut directory, mut pid, mut said) = (None::<PathBuf>, None, String::new());
        loop {
            match told.recv_timeout(PROBE_EVERY) {
                Ok(Told::Directory(path)) => directory = Some(path),
                Ok(Told::Server(number)) => pid = Some(number),
                Ok(Told::Said(line)) => said = line,
                Ok(Told::Ended { status, program }) => {
                    let log = log_tail(directory.as_deref());
                    return Err(StartError::Ended {
                        name,
                        program,
                        status,
                        log,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(StartError::Directory { name, said });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let (Some(directory), Some(pid)) = (&directory, pid)
                && (description.ready)(directory)
            {
                return Ok(Self {
                    shell,
                    directory: directory.clone(),
                    port,
                    pid,
                });
            }
            if Instant::now() > deadline {
                let log = log_tail(directory.as_deref());
                return Err(StartError::Late { name, log });
            }
        }
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

    /// The server's process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The supervisor's process.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.shell.child.id()
    }
}

/// The script at work. Dropping it lets go of the pipe and waits until all is cleaned up.
#[derive(Debug)]
struct Shell {
    child: Child,
    held: Option<ChildStdin>,
}

impl Shell {
    fn spawn(description: &Description) -> Result<(Self, Receiver<Told>), StartError> {
        let name = description.name;
        let account = account::for_server(description.account)
            .map_err(|source| StartError::Account { name, source })?;
        let base = std::path::absolute(env::temp_dir()).unwrap_or_else(|_| env::temp_dir());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"eval "$SUPERVISE""#, "supervise", name])
            .arg(&base)
            .args([description.stop_signal, &STOP_TRIES.to_string()]);
        for step in &description.steps {
            command.arg(step.len().to_string()).args(step);
        }
        command
            // What the developer's shell says about his own servers is not meant for ours, and
            // messages are looked for in English.
            .env_clear()
            // Here and not in the arguments, which everybody's `ps` shows.
            .env("SUPERVISE", SCRIPT)
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .env("LC_ALL", "C")
            .env("TMPDIR", base)
            .current_dir("/")
            // Out of the terminal's foreground: a Ctrl-C ends us, and the script cleans up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(account) = account {
            // Changing the user drops root's other groups as well.
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        let refused = |source| StartError::Supervisor { name, source };
        let mut child = command.spawn().map_err(refused)?;
        let (held, out) = (child.stdin.take(), child.stdout.take());
        let shell = Self { child, held };
        let out = out.ok_or_else(|| refused(io::ErrorKind::BrokenPipe.into()))?;
        let told = listen(out).map_err(refused)?;
        Ok((shell, told))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.held.take());
        // It fails only when somebody else has waited for it: then it is gone as well.
        let _ = self.child.wait();
    }
}

/// Reads what the script tells on a thread, which ends with the script.
fn listen(out: ChildStdout) -> io::Result<Receiver<Told>> {
    let (teller, told) = sync_channel(1);
    thread::Builder::new()
        .name("supervisor".into())
        .spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Once started, nobody listens any more, but the pipe is kept open and empty.
                let _ = teller.send(Told::read(line));
            }
        })?;
    Ok(told)
}

fn log_tail(directory: Option<&Path>) -> String {
    let read = || -> io::Result<String> {
        let mut log = fs::File::open(directory.unwrap_or(Path::new("/")).join("log"))?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut tail = Vec::new();
        log.read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).trim_end().to_owned())
    };
    read().unwrap_or_else(|error| format!("(no log: {error})"))
}
