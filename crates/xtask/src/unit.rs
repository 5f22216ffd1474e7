//! All tests, against servers that run for this one run.

use std::time::Instant;

use anyhow::Result;
use buttress_testkit::tally::TALLY_VARIABLE;

use crate::{
    cargo::Cargo,
    servers::{Server, Started},
    torture,
};

/// Runs them in their short tier. The torture suites among them report what they did; what they
/// found is part of the result.
pub(crate) fn test(cargo: &Cargo, servers: &[Server]) -> Result<()> {
    let begun = Instant::now();
    let lines = torture::fresh_lines(cargo, None)?;
    let told = lines.to_string_lossy();
    let started = Started::start(servers)?;
    let mut environment = started.environment();
    environment.push((TALLY_VARIABLE, &told));
    let passed = cargo.run(
        "test",
        ["--workspace", "--all-features", "--no-fail-fast"],
        &environment,
    );
    // Also when a test failed: its suite is among those that report.
    let judged = torture::ordinary(cargo, servers, &lines, begun.elapsed());
    passed.and(judged)
}
