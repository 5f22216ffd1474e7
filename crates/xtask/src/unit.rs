//! All tests, against servers that run for this one run.

use anyhow::Result;

use crate::{cargo::Cargo, servers::Server};

/// Starts every server once and hands its URL to the tests. They end with the run.
///
/// A server that the environment gives is passed through, and none is started for it.
pub(crate) fn test(cargo: &Cargo, servers: &[Server]) -> Result<()> {
    let mut started = Vec::new();
    for server in servers {
        if server.is_given() {
            println!("{}: given by {}", server.program, server.url_variable);
            continue;
        }
        let running = (server.start)()?;
        println!("{}: {}", server.program, running.url);
        started.push((server.url_variable, running));
    }
    let environment: Vec<_> = started
        .iter()
        .map(|(variable, running)| (*variable, running.url.as_str()))
        .collect();
    cargo.run(
        "test",
        ["--workspace", "--all-features", "--no-fail-fast"],
        &environment,
    )
}
