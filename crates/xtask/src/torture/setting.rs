//! What a run was made with: commit, servers, machine.

use std::{collections::BTreeMap, fs, num::NonZeroUsize, process::Command, thread};

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

/// How many processes wanted to run in the last minute, where the system says it.
pub(crate) fn load() -> Option<f64> {
    let told = fs::read_to_string("/proc/loadavg").ok()?;
    told.split(' ').next()?.parse().ok()
}

/// With one digit behind the point: more is not known.
pub(crate) fn mean(all: &[f64]) -> Option<f64> {
    let count = u32::try_from(all.len()).ok().filter(|it| *it > 0)?;
    let mean = all.iter().sum::<f64>() / f64::from(count);
    Some((mean * 10.0).round() / 10.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_nothing_is_unknown_and_others_have_one_digit() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, 2.0, 2.0]), Some(1.7));
    }
}
