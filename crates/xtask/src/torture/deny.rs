//! Licences, sources and bans, and known advisories where their list can be had: by cargo-deny.

use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo::Cargo;

/// What is asked without a network, once the crates are here.
const CHECKS: [&str; 3] = ["bans", "licenses", "sources"];

/// Asks, and says in a line what came of it. What is not installed is left out, and said to be.
pub(crate) fn check(cargo: &Cargo, install: bool) -> Result<String> {
    if !is_there() && install {
        // By another build than ours: its flags and its folder are its own.
        let words = ["--locked", "--quiet", "cargo-deny"];
        if let Err(error) = cargo.unlocked("install", words) {
            println!("cargo-deny: {error:#}");
        }
    }
    if !is_there() {
        let why = "left out: cargo-deny is not installed (cargo install --locked cargo-deny)";
        println!("{why}");
        return Ok(why.to_owned());
    }
    // It looks at what other systems would build as well, which a build here has not fetched.
    if let Err(error) = cargo.unlocked("fetch", ["--locked", "--quiet"]) {
        let why = format!("left out: the crates of other systems cannot be fetched ({error:#})");
        println!("{why}");
        return Ok(why);
    }
    let words = ["--all-features", "--offline", "check"];
    cargo.unlocked("deny", words.into_iter().chain(CHECKS))?;
    let offline = format!("{} hold", CHECKS.join(", "));
    // The list of advisories is fetched, which is not possible everywhere.
    match advisories(cargo)? {
        true => Ok(format!("{offline}; no advisory is known")),
        false => {
            println!("left out: advisories and withdrawn versions, whose list cannot be fetched");
            Ok(format!(
                "{offline}; left out: advisories and withdrawn versions, whose list cannot be fetched"
            ))
        }
    }
}

fn is_there() -> bool {
    let version = Command::new("cargo").args(["deny", "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

/// Whether the list was there to be asked. What it says of us is an error.
fn advisories(cargo: &Cargo) -> Result<bool> {
    let output = Command::new("cargo")
        .args(["deny", "--all-features", "check", "advisories"])
        .current_dir(cargo.root())
        .output()?;
    if output.status.success() {
        return Ok(true);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    if cannot_fetch(&told) {
        return Ok(false);
    }
    bail!("cargo deny check advisories: {}", told.trim());
}

fn cannot_fetch(told: &str) -> bool {
    told.contains("failed to fetch advisory database") || told.contains("failed to load advisory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_cannot_be_fetched_is_told_from_an_advisory() {
        assert!(cannot_fetch(
            "[ERROR] failed to fetch advisory database https://…"
        ));
        assert!(!cannot_fetch("error[vulnerability]: a crate has a bug"));
    }
}
