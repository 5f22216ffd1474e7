//! What the default features do not pull.

use std::collections::BTreeSet;

use anyhow::Result;
use cargo_metadata::DependencyKind;

use crate::cargo::Cargo;

/// Drivers, servers, clients and TLS: a user asks for them by a feature.
const DRIVERS: &[&str] = &[
    "axum",
    "axum-core",
    "hyper",
    "hyper-util",
    "lapin",
    "mysql_async",
    "native-tls",
    "openssl-sys",
    "redis",
    "reqwest",
    "rusqlite",
    "rustls",
    "sqlx",
    "sqlx-core",
    "tokio-postgres",
    "tonic",
    "tower-http",
];

/// All that `buttress-core` may depend on: every user of the family builds it.
const CORE: (&str, &[&str]) = (
    "buttress-core",
    &["httpdate", "thiserror", "tokio", "tracing"],
);

/// What it may have by feature alone: a clock, and the clients whose results it judges.
const CORE_BY_FEATURE: &[&str] = &["http", "quanta", "reqwest", "rustix", "tonic"];

/// What is pulled that should not be.
pub(super) fn check(cargo: &Cargo) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    // xtask itself stays small too: one waits for it before every command.
    let xtask = cargo.packages().iter().filter(|it| it.name == "xtask");
    for package in cargo.published().chain(xtask) {
        let words = format!(
            "-p {} --edges normal,build --prefix none --format {{p}}",
            package.name
        );
        println!("$ cargo tree {words}");
        let tree = cargo.read("tree", words.split(' '))?;
        wrong.extend(drivers(&package.name, &tree));
        if package.name == CORE.0 {
            let shipped = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development);
            wrong.extend(strangers(shipped.map(|it| (it.name.as_str(), it.optional))));
        }
    }
    Ok(wrong)
}

/// The drivers in what `cargo tree` prints: a line a package, its name first.
fn drivers(package: &str, tree: &str) -> Vec<String> {
    let pulled: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    DRIVERS
        .iter()
        .filter(|driver| pulled.contains(**driver))
        .map(|driver| format!("{package} pulls {driver} by default"))
        .collect()
}

/// The direct dependencies that core should not have, each told with whether it is optional.
fn strangers<'a>(dependencies: impl Iterator<Item = (&'a str, bool)>) -> Vec<String> {
    dependencies
        .filter(|(name, _)| !CORE.1.contains(name))
        .filter(|(name, optional)| !optional || !CORE_BY_FEATURE.contains(name))
        .map(|(name, _)| format!("{} may not depend on {name}", CORE.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_found_by_its_whole_name_wherever_it_stands() {
        let tree = "buttress-outbox v0.1.0 (/here)\nredis-protocol v6.0.0\nserde v1.0.229\nsqlx v0.9.0 (*)\n";
        assert_eq!(
            drivers("buttress-outbox", tree),
            ["buttress-outbox pulls sqlx by default"]
        );
        assert!(drivers("buttress-outbox", "redis-protocol v6.0.0\n").is_empty());
    }

    #[test]
    fn core_depends_on_what_is_listed_and_no_more() {
        let allowed = [("tokio", false), ("thiserror", false), ("http", true)];
        assert!(strangers(allowed.into_iter()).is_empty());
        assert_eq!(
            strangers([("tokio", false), ("serde", true), ("http", false)].into_iter()),
            [
                "buttress-core may not depend on serde",
                "buttress-core may not depend on http"
            ]
        );
    }
}
