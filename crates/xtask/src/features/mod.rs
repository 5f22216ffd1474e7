//! Features: each builds alone, and the defaults are lean.

mod alone;
mod lean;

use anyhow::{Result, bail};

use crate::cargo::Cargo;

pub(crate) fn check(cargo: &Cargo) -> Result<()> {
    let mut failed = lean::check(cargo)?;
    failed.extend(alone::check(cargo));
    if failed.is_empty() {
        return Ok(());
    }
    bail!("\n  {}", failed.join("\n  "));
}
