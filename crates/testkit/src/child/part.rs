//! The side of the child.

use std::{
    env,
    io::{self, BufRead as _, Write as _},
    process,
    sync::mpsc::{Receiver, sync_channel},
    sync::{Mutex, PoisonError},
    thread,
};

use super::{GO_ON, MARK, ROLE_VARIABLE};

/// The exit code of a role whose parent is gone.
const ORPHAN: i32 = 3;

/// The role that this process was started in.
///
/// A process in a role ends when its parent does, however that ends.
#[derive(Debug)]
pub struct Role {
    words: Mutex<Receiver<()>>,
}

/// The role `name`, if this process was started in it, and `None` in an ordinary run. To be asked
/// once in a process.
///
/// # Panics
///
/// When there is no thread to be had.
#[must_use]
pub fn role(name: &str) -> Option<Role> {
    if env::var(ROLE_VARIABLE).ok().as_deref() != Some(name) {
        return None;
    }
    let (says, words) = sync_channel(1);
    let listens = thread::Builder::new().name("parent".into()).spawn(move || {
        for word in io::stdin().lock().lines().map_while(Result::ok) {
            if word == GO_ON && says.send(()).is_err() {
                return;
            }
        }
        // The parent is gone, and what it started must not stay.
        process::exit(ORPHAN);
    });
    if let Err(error) = listens {
        panic!("no thread to listen to the parent: {error}");
    }
    Some(Role {
        words: Mutex::new(words),
    })
}

impl Role {
    /// Says that this process has come to `point`, and with what, and goes on. A point has no
    /// colon in it; a line break in either becomes a space.
    ///
    /// When this returns, the parent can read it: it is said even if the process is killed in the
    /// next moment.
    ///
    /// # Panics
    ///
    /// When the parent is gone.
    pub fn announce(&self, point: &str, with: &str) {
        let line = format!("\n{MARK}{}: {}\n", one_line(point), one_line(with));
        let mut out = io::stdout().lock();
        // One write: what others print stands before or after it.
        if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            panic!("cannot announce {point}: {error}");
        }
    }

    /// Says that it has come to `point`, and blocks this thread until the parent lets it
    /// [go on](super::Child::go_on), or kills it here.
    ///
    /// # Panics
    ///
    /// When the parent is gone.
    pub fn wait_at(&self, point: &str) {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        self.announce(point, "");
        if words.recv().is_err() {
            panic!("nobody lets me go on from {point}");
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
