//! A server that has begun, and may not be ready.

use std::{
    fs, io,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// How much of the end of a log an error shows, in bytes.
const LOG_TAIL: u64 = 4096;

/// What a [`Description`](super::Description) is shown of a server that has begun: it says whether
/// the server is ready.
#[derive(Clone, Copy, Debug)]
pub struct Starting<'a> {
    pub(super) directory: &'a Path,
    pub(super) pid: u32,
    /// Where in the log this start begins.
    pub(super) log_start: u64,
}

impl Starting<'_> {
    /// Its directory.
    #[must_use]
    pub const fn directory(&self) -> &Path {
        self.directory
    }

    /// Its process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the log holds `words`, written since this start.
    #[must_use]
    pub fn has_said(&self, words: &str) -> bool {
        read_from(self.directory, self.log_start).is_ok_and(|log| log.contains(words))
    }
}

/// How long the log is.
pub(super) fn log_length(directory: &Path) -> u64 {
    fs::metadata(directory.join("log")).map_or(0, |it| it.len())
}

/// The end of the log, for an error.
pub(super) fn log_tail(directory: &Path) -> String {
    let start = log_length(directory).saturating_sub(LOG_TAIL);
    read_from(directory, start).map_or_else(
        |error| format!("(no log: {error})"),
        |log| log.trim_end().to_owned(),
    )
}

fn read_from(directory: &Path, start: u64) -> io::Result<String> {
    let mut log = fs::File::open(directory.join("log"))?;
    log.seek(SeekFrom::Start(start))?;
    let mut rest = Vec::new();
    log.read_to_end(&mut rest)?;
    Ok(String::from_utf8_lossy(&rest).into_owned())
}
