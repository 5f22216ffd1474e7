//! The script that runs a server, and what it tells.

use std::{
    env,
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use super::{Description, StartError};
use crate::account;

const SCRIPT: &str = include_str!("supervise.sh");
/// How often, at a distance of 50 ms, a server is asked to stop before it is killed.
const STOP_TRIES: u32 = 100;
/// More than the script tells between two looks.
const TOLD: usize = 16;

/// What the script tells.
#[derive(Debug)]
pub(super) enum Told {
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

/// The script at work. Dropping it lets go of the pipe and waits until all is cleaned up.
#[derive(Debug)]
pub(super) struct Shell {
    child: Child,
    held: Option<ChildStdin>,
}

impl Shell {
    pub(super) fn spawn(description: &Description) -> Result<(Self, Receiver<Told>), StartError> {
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

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
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
    let (teller, told) = sync_channel(TOLD);
    thread::Builder::new()
        .name("supervisor".into())
        .spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Nobody listens any more when it is being dropped.
                let _ = teller.send(Told::read(line));
            }
        })?;
    Ok(told)
}
