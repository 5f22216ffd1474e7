//! How a server is run.

use std::{
    ffi::{OsStr, OsString},
    fmt,
};

use super::Starting;

/// How a server is run: what differs from one kind of server to another.
pub struct Description {
    pub(super) name: &'static str,
    pub(super) account: &'static str,
    pub(super) steps: Vec<Vec<OsString>>,
    pub(super) stop_signal: &'static str,
    pub(super) address_in_use: &'static str,
    pub(super) ready: Box<dyn Fn(&Starting<'_>) -> bool + Send + Sync>,
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description")
            .field("name", &self.name)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl Description {
    /// A server called `name`, which is ready once `ready` says so.
    ///
    /// `ready` is asked every 20 ms. It should read what only *this* server can have written since
    /// *this* start: a port may be answered by somebody else, and a file may be of a start before.
    #[must_use]
    pub fn new(
        name: &'static str,
        ready: impl Fn(&Starting<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            account: name,
            steps: Vec::new(),
            stop_signal: "TERM",
            address_in_use: "Address already in use",
            ready: Box::new(ready),
        }
    }

    /// The account it runs as when we are root, if it is not called like the server.
    #[must_use]
    pub fn account(mut self, account: &'static str) -> Self {
        self.account = account;
        self
    }

    /// A program that runs in the server's directory once the steps before it have succeeded.
    /// The last step is the server.
    ///
    /// Its output goes into the file `log` in that directory, which later steps share.
    #[must_use]
    pub fn step<A: AsRef<OsStr>>(
        mut self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut words = vec![program.as_ref().to_os_string()];
        words.extend(arguments.into_iter().map(|it| it.as_ref().to_os_string()));
        self.steps.push(words);
        self
    }

    /// The signal, without `SIG`, that stops it at once and in order. It is sent every 50 ms for
    /// five seconds, and then followed by `KILL`. Without this it is `TERM`.
    #[must_use]
    pub fn stop_signal(mut self, signal: &'static str) -> Self {
        self.stop_signal = signal;
        self
    }

    /// What its log says when its port is taken. Without this it is the system's own message.
    #[must_use]
    pub fn address_in_use(mut self, message: &'static str) -> Self {
        self.address_in_use = message;
        self
    }
}
