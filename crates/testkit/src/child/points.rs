//! What a child has said, as far as its parent has read.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read},
    thread,
};

use tokio::sync::watch;

use super::MARK;

/// How many lines of a child's other words a failure shows.
const LINES: usize = 30;

#[derive(Debug, Default)]
pub(super) struct Said {
    /// The points with what came with them, in order.
    pub(super) points: Vec<(String, String)>,
    /// The last lines of everything else.
    others: VecDeque<String>,
    /// How many of its streams have ended.
    pub(super) ended: u32,
}

impl Said {
    fn hear(&mut self, line: &str) {
        if let Some((point, with)) = line.strip_prefix(MARK).and_then(|it| it.split_once(": ")) {
            self.points.push((point.to_owned(), with.to_owned()));
            return;
        }
        if self.others.len() == LINES {
            self.others.pop_front();
        }
        if !line.is_empty() {
            self.others.push_back(line.to_owned());
        }
    }

    /// Its last words, for a failure.
    pub(super) fn last_words(&self) -> String {
        let points: Vec<&str> = self.points.iter().map(|(it, _)| it.as_str()).collect();
        let others: Vec<&str> = self.others.iter().map(String::as_str).collect();
        format!(
            "its points: {points:?}; its last words:\n{}",
            others.join("\n")
        )
    }
}

/// Reads a stream of a child's on a thread, which ends with the stream.
pub(super) fn read(
    stream: impl Read + Send + 'static,
    said: watch::Sender<Said>,
) -> std::io::Result<()> {
    let read = move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        // Bytes, for what a child prints need not be text.
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            said.send_modify(|said| {
                said.hear(String::from_utf8_lossy(&line).trim_end_matches('\n'));
            });
            line.clear();
        }
        said.send_modify(|said| said.ended += 1);
    };
    thread::Builder::new()
        .name("child".into())
        .spawn(read)
        .map(drop)
}
