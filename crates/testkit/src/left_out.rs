//! What a test run did not test, said on its last line.
//!
//! A test that finds no server passes, and libtest swallows what a passing test prints: the gap
//! would be silent. So the line is printed by a process that is not the test's: a small shell
//! that shares our standard error and speaks once the test binary has ended.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::afterwards::Afterwards;

/// Some tests were not run, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{subject}: {reason}")]
pub struct LeftOut {
    subject: String,
    reason: String,
}

/// What was registered, and the shell that will say it.
struct Speaker {
    said: BTreeSet<LeftOut>,
    shell: Option<Afterwards>,
}

static SPEAKER: Mutex<Speaker> = Mutex::new(Speaker {
    said: BTreeSet::new(),
    shell: None,
});

impl LeftOut {
    /// Tests of `subject` are left out for `reason`. Both go into one line.
    #[must_use]
    pub fn new(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            reason: reason.into(),
        }
    }

    /// Has it said after the test binary's last line, once however often it is registered.
    ///
    /// Where no shell can be started it is said at once, to standard error.
    #[expect(
        clippy::print_stderr,
        reason = "the last resort, so that the gap is not silent"
    )]
    pub fn register(&self) {
        let mut speaker = SPEAKER.lock().unwrap_or_else(PoisonError::into_inner);
        if !speaker.said.insert(self.clone()) {
            return;
        }
        let line = format!("left out: {self}");
        if speaker.shell.is_none() {
            let nothing: [&str; 0] = [];
            speaker.shell = Afterwards::new(r#"printf '%s\n' "$told" >&2"#, nothing).ok();
        }
        let told = speaker.shell.as_mut().map(|shell| shell.tell(&line));
        if !matches!(told, Some(Ok(()))) {
            eprintln!("{line}");
        }
    }
}
