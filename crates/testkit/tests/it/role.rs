//! A part that is played in another process, in a temporary directory that only it uses.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use buttress_testkit::{mysql, nats, postgres, rabbitmq, redis};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// Longer than any of these events takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A role's process, and what it had for `TMPDIR`.
pub(crate) struct Role {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
    pub(crate) temporary: TempDir,
}

impl Role {
    pub(crate) fn play(words: &[&str], given: Option<(&str, &str)>) -> Self {
        Self::play_in(open_to_all(), words, given)
    }

    pub(crate) fn play_in(temporary: TempDir, words: &[&str], given: Option<(&str, &str)>) -> Self {
        let none = [
            postgres::URL_VARIABLE,
            mysql::URL_VARIABLE,
            nats::URL_VARIABLE,
            rabbitmq::URL_VARIABLE,
            redis::URL_VARIABLE,
        ];
        let mut child = Command::new(env!("CARGO_BIN_EXE_role"))
            .args(words)
            .env("TMPDIR", temporary.path())
            .envs(none.map(|variable| (variable, "")))
            .envs(given)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            lines,
            temporary,
        }
    }

    /// The next line that the role says.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn end_by(&mut self, word: &str) -> ExitStatus {
        writeln!(self.child.stdin.take().unwrap(), "{word}").unwrap();
        self.child.wait().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the role has made something in its temporary directory that lies at `inside`
    /// some directory there.
    pub(crate) fn made(&self, inside: &str) {
        eventually(inside, || {
            entries(self.temporary.path())
                .iter()
                .any(|directory| directory.join(inside).exists())
        });
    }

    /// Waits until nothing is left in its temporary directory, and then looks for survivors.
    pub(crate) fn leaves_nothing(&self) {
        let temporary = self.temporary.path();
        eventually("the directory is gone", || entries(temporary).is_empty());
        assert_eq!(inhabitants(temporary), Vec::<PathBuf>::new());
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A failed test may leave before the supervisor does; its directory must not be taken away.
        if !thread::panicking() {
            self.leaves_nothing();
        }
    }
}

/// A temporary directory with a space in its path, for nothing may mind one, and open to a
/// server's account.
pub(crate) fn open_to_all() -> TempDir {
    let room = tempfile::Builder::new()
        .prefix("a room ")
        .tempdir()
        .unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o777)).unwrap();
    room
}

pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// The processes whose working directory lies in `directory`, as far as /proc tells.
fn inhabitants(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|process| Some(process.ok()?.path()))
        .filter(|process| {
            fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
        })
        .collect()
}

/// Looks again until `it` is so.
pub(crate) fn eventually(claim: &str, it: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !it() {
        assert!(Instant::now() < deadline, "it never came: {claim}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    kill(pid, None::<Signal>).is_ok()
}
