//! The side of the parent.

use std::{
    env,
    ffi::OsStr,
    io::{self, Write as _},
    ops::Range,
    os::unix::process::ExitStatusExt as _,
    process::{self, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use rand::{Rng, RngExt as _};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    GO_ON, ROLE_VARIABLE,
    points::{Said, read},
};
use crate::{afterwards::Afterwards, supervisor::processes, tally::Counting};

/// Longer than a child takes to any point on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether a process has ended or stopped, which nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A child that is about to be started.
#[derive(Debug)]
#[must_use = "it is not started"]
pub struct Spawn {
    command: Command,
    role: String,
}

impl Spawn {
    /// Sets a variable of its environment, which is otherwise the parent's.
    pub fn environment(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument. A test binary takes those of libtest.
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When there is no such program, or no process, pipe or thread to be had.
    #[must_use]
    pub fn spawn(self) -> Child {
        let role = self.role.clone();
        match self.try_spawn() {
            Ok(child) => child,
            Err(error) => panic!("no child in the role {role}: {error}"),
        }
    }

    fn try_spawn(mut self) -> io::Result<Child> {
        let mut process = self
            .command
            .env(ROLE_VARIABLE, &self.role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = watch::Sender::new(Said::default());
        let heard = said.subscribe();
        let (out, err) = (process.stdout.take(), process.stderr.take());
        // A stopped one cannot see that we are gone: it is waked then, and sees it.
        let woken = Afterwards::new(
            r#"kill -s CONT "$1" 2>/dev/null"#,
            [process.id().to_string()],
        );
        let mut child = Child {
            role: self.role,
            process,
            heard,
            next: 0,
            counting: Counting::here(),
            _woken: None,
        };
        // From here on a failure drops, and so ends, the child.
        if let (Some(out), Some(err)) = (out, err) {
            read(out, said.clone())?;
            read(err, said)?;
        }
        child._woken = Some(woken?);
        Ok(child)
    }
}

/// A process that plays a role of a test. Dropping it kills it, and waits for its end.
#[derive(Debug)]
pub struct Child {
    role: String,
    process: process::Child,
    heard: watch::Receiver<Said>,
    /// How many of its points have been waited for, or passed over.
    next: usize,
    counting: Counting,
    _woken: Option<Afterwards>,
}

impl Child {
    /// This test binary in the role `role`, which is played by the test at `path`: the test's
    /// module path without the crate's name, as libtest prints it.
    ///
    /// # Panics
    ///
    /// When the system does not know which program this is.
    pub fn role(role: &str, path: &str) -> Spawn {
        let program = match env::current_exe() {
            Ok(program) => program,
            Err(error) => panic!("which program is this? {error}"),
        };
        Self::program(role, program)
            .argument(path)
            .argument("--exact")
            .argument("--nocapture")
            .argument("--test-threads=1")
    }

    /// Another program in a role.
    pub fn program(role: &str, program: impl AsRef<OsStr>) -> Spawn {
        Spawn {
            command: Command::new(program),
            role: role.to_owned(),
        }
    }

    /// Waits until the child has announced `point`, and returns what came with it. Points that it
    /// announced before are passed over; each announcement is taken once.
    ///
    /// Dropped, it has taken nothing.
    ///
    /// # Panics
    ///
    /// When it ends first, or does not come there within a minute.
    pub async fn until(&mut self, point: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            {
                let said = self.heard.borrow_and_update();
                let mut later = said.points.iter().enumerate().skip(self.next);
                if let Some((at, (_, with))) = later.find(|(_, (it, _))| it == point) {
                    self.next = at + 1;
                    return with.clone();
                }
                let role = &self.role;
                // Both streams, so that its last words are read.
                if said.ended == 2 {
                    let last_words = said.last_words();
                    drop(said);
                    panic!("{role} ended before {point}; {last_words}");
                }
                assert!(
                    Instant::now() < deadline,
                    "{role} did not come to {point} within {PATIENCE:?}; {}",
                    said.last_words()
                );
            }
            // An error means that both streams have ended, which is seen above.
            let _ = timeout(PATIENCE, self.heard.changed()).await;
        }
    }

    /// How often it has announced `point` until now.
    #[must_use]
    pub fn count(&self, point: &str) -> usize {
        let said = self.heard.borrow();
        said.points.iter().filter(|(it, _)| it == point).count()
    }

    /// Lets it go on from the point at which it waits, or will wait next.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn go_on(&mut self) {
        let told = match &mut self.process.stdin {
            Some(stdin) => writeln!(stdin, "{GO_ON}"),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        if let Err(error) = told {
            panic!("{} cannot go on: {error}", self.role);
        }
    }

    /// Kills it by SIGKILL, and waits for its end. One that has ended is left alone.
    pub fn kill(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.counting.kill();
        }
        self.end_it();
    }

    fn end_it(&mut self) {
        // It fails when it has ended: then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Kills it after a time that `rng` chooses, or when it has ended before, does nothing.
    /// Returns the time.
    ///
    /// Dropped, it kills nothing.
    pub async fn kill_within(&mut self, range: Range<Duration>, rng: &mut impl Rng) -> Duration {
        let after = rng.random_range(range);
        sleep(after).await;
        self.kill();
        after
    }

    /// Stops it, as a long pause of its host would, and returns when it stands still.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.counting.kill();
        while !processes::is_stopped(self.process.id()) {
            self.has_not_ended();
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Lets a stopped one go on.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn resume(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits for its own end. Dropped, nothing has happened.
    ///
    /// # Panics
    ///
    /// When it has not ended within a minute.
    pub async fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} does not end; {}",
                self.role,
                self.heard.borrow().last_words()
            );
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for its own end, which must be a success.
    ///
    /// # Panics
    ///
    /// When it ends otherwise, or not within a minute.
    pub async fn succeed(&mut self) {
        let status = self.end().await;
        let said = self.heard.borrow();
        assert!(
            status.success(),
            "{} failed: {status}; {}",
            self.role,
            said.last_words()
        );
    }

    /// Waits until it has aborted, as at a [`CrashPoint`](crate::fault::CrashPoint).
    ///
    /// # Panics
    ///
    /// When it ends otherwise, or not within a minute.
    pub async fn abort(&mut self) {
        let status = self.end().await;
        let said = self.heard.borrow();
        let aborted = status.signal() == Some(Signal::SIGABRT as i32);
        assert!(
            aborted,
            "{} did not abort: {status}; {}",
            self.role,
            said.last_words()
        );
        self.counting.kill();
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn signal(&mut self, signal: Signal) {
        // Not waited for yet, so the number is still its own.
        self.has_not_ended();
        if let Err(error) = processes::send(self.process.id(), signal) {
            panic!("no {signal} for {}: {error}", self.role);
        }
    }

    fn has_not_ended(&mut self) {
        if let Ok(Some(status)) = self.process.try_wait() {
            let said = self.heard.borrow();
            panic!("{} has ended: {status}; {}", self.role, said.last_words());
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end_it();
    }
}
