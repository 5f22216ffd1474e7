//! All tests, against servers that run for this one run.

use anyhow::Result;

use crate::{
    cargo::Cargo,
    servers::{Server, Started},
};

/// Runs them in their short tier.
pub(crate) fn test(cargo: &Cargo, servers: &[Server]) -> Result<()> {
    let started = Started::start(servers)?;
    cargo.run(
        "test",
        ["--workspace", "--all-features", "--no-fail-fast"],
        &started.environment(),
    )
}
