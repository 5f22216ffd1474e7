//! What a run was made with: commit, servers, machine.

use std::{collections::BTreeMap, num::NonZeroUsize, process::Command, thread};

use super::report::{Report, SCHEMA};
use crate::{cargo::Cargo, servers::Server};

/// A report of nothing yet.
pub(crate) fn begin(cargo: &Cargo, servers: &[Server], of: &str) -> Report {
    let versions = servers.iter().filter(|server| server.start.is_some());
    let servers: BTreeMap<_, _> = versions
        .map(|server| (server.program.to_owned(), server.version()))
        .collect();
    Report {
        schema: SCHEMA,
        of: of.to_owned(),
        commit: git(cargo, &["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned()),
        changed: git(cargo, &["status", "--porcelain"]).is_none_or(|it| !it.is_empty()),
        tier: "short".to_owned(),
        build: "debug".to_owned(),
        cores: cores(),
        servers,
        deny: "not asked".to_owned(),
        ..Report::default()
    }
}

/// How many things can be done at once here.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn git(cargo: &Cargo, words: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    let output = command
        .args(words)
        .current_dir(cargo.root())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
