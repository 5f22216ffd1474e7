//! Every published library builds with no feature, with each one alone, and with all.

use cargo_metadata::{Package, TargetKind};

use crate::cargo::Cargo;

/// The choices of features that did not build without a warning.
///
/// It is clippy that builds them, because it can deny warnings in our crates alone; rustc's flags
/// could not, and changing them would build every dependency anew.
/// Only the library is built: dev-dependencies then bring in no features of their own (resolver
/// 3), so what a user gets is what is built.
pub(super) fn check(cargo: &Cargo) -> Vec<String> {
    let mut failed = Vec::new();
    for package in cargo.published().filter(|package| has_library(package)) {
        for choice in choices(package.features.keys()) {
            let words = format!("-p {} --lib --quiet {choice} -- -D warnings", package.name);
            if cargo.run("clippy", words.split(' '), &[]).is_err() {
                failed.push(format!("{} {choice} does not build", package.name));
            }
        }
    }
    failed
}

fn has_library(package: &Package) -> bool {
    let mut kinds = package.targets.iter().flat_map(|target| &target.kind);
    kinds.any(|kind| matches!(kind, TargetKind::Lib | TargetKind::ProcMacro))
}

/// What cargo is told for every choice.
fn choices<'a>(features: impl Iterator<Item = &'a String>) -> Vec<String> {
    let alone = features
        .filter(|feature| *feature != "default")
        .map(|feature| format!("--no-default-features --features {feature}"));
    ["--no-default-features".to_owned()]
        .into_iter()
        .chain(alone)
        .chain(["--all-features".to_owned()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_each_alone_and_all() {
        let features = ["default", "axum", "tower"].map(str::to_owned);
        assert_eq!(
            choices(features.iter()),
            [
                "--no-default-features",
                "--no-default-features --features axum",
                "--no-default-features --features tower",
                "--all-features",
            ]
        );
    }
}
