//! Who may depend on whom: core ← store ← patterns ← facade.

use cargo_metadata::DependencyKind;

use super::Finding;
use crate::cargo::Cargo;

/// A package of the workspace depends on another.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    /// The folder of the one who depends, from the root.
    from: String,
    /// The folder of the other.
    to: String,
    for_tests: bool,
}

/// What a package is in the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Floor {
    Core,
    Store,
    Pattern,
    /// The macros of a pattern, which only that pattern knows: it re-exports them.
    Derive,
    Facade,
    Testkit,
    Xtask,
    /// Examples, benches, and the tests that no single crate can hold.
    Outside,
}

/// The only patterns that stand on another one.
const BETWEEN_PATTERNS: &[(&str, &str)] = &[
    ("crates/cache-aside", "crates/circuit-breaker"),
    ("crates/outbox", "crates/retry-backoff"),
    ("crates/saga", "crates/retry-backoff"),
];

impl Floor {
    fn of(folder: &str) -> Self {
        match folder.strip_prefix("crates/") {
            Some("core") => Self::Core,
            Some("store") => Self::Store,
            Some("buttress") => Self::Facade,
            Some("testkit") => Self::Testkit,
            Some("xtask") => Self::Xtask,
            Some(name) if name.ends_with("-derive") => Self::Derive,
            Some(_) => Self::Pattern,
            None => Self::Outside,
        }
    }
}

/// The edges of this workspace.
pub(super) fn of(cargo: &Cargo) -> Vec<Edge> {
    let folder = |path: &cargo_metadata::camino::Utf8Path| {
        let inside = path.strip_prefix(cargo.root()).unwrap_or(path);
        inside.as_str().to_owned()
    };
    let mut edges = Vec::new();
    for package in cargo.packages() {
        let from = package.manifest_path.parent().map(folder);
        for dependency in &package.dependencies {
            if let (Some(from), Some(path)) = (&from, &dependency.path) {
                edges.push(Edge {
                    from: from.clone(),
                    to: folder(path),
                    for_tests: dependency.kind == DependencyKind::Development,
                });
            }
        }
    }
    edges
}

pub(super) fn check(edges: &[Edge]) -> Vec<Finding> {
    edges
        .iter()
        .filter(|edge| !is_allowed(edge))
        .map(|edge| {
            let what = format!("may not depend on {}", edge.to);
            Finding::about(&format!("{}/Cargo.toml", edge.from), what)
        })
        .collect()
}

fn is_allowed(edge: &Edge) -> bool {
    use Floor::{Core, Derive, Facade, Outside, Pattern, Store, Testkit, Xtask};
    match (Floor::of(&edge.from), Floor::of(&edge.to)) {
        // Any test may use the kit; what ships may not.
        (Core | Store | Pattern | Facade, Testkit) => edge.for_tests,
        (Store | Testkit | Pattern, Core)
        | (Pattern | Testkit, Store)
        | (Facade, Core | Store | Pattern)
        | (Xtask, Testkit) => true,
        (Pattern, Pattern) => BETWEEN_PATTERNS.contains(&(edge.from.as_str(), edge.to.as_str())),
        (Pattern, Derive) => edge.to == format!("{}-derive", edge.from),
        // What a derive writes compiles only beside what it is for.
        (Derive, Pattern) => edge.for_tests && edge.from == format!("{}-derive", edge.to),
        (Outside, to) => !matches!(to, Derive | Xtask),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(from: &str, to: &str, for_tests: bool) -> bool {
        let edge = Edge {
            from: from.into(),
            to: to.into(),
            for_tests,
        };
        check(&[edge]).is_empty()
    }

    #[test]
    fn each_floor_stands_on_those_below_it() {
        for (from, to) in [
            ("crates/store", "crates/core"),
            ("crates/outbox", "crates/core"),
            ("crates/outbox", "crates/store"),
            ("crates/outbox", "crates/retry-backoff"),
            ("crates/saga", "crates/retry-backoff"),
            ("crates/cache-aside", "crates/circuit-breaker"),
            ("crates/buttress", "crates/outbox"),
            ("crates/error-envelope", "crates/error-envelope-derive"),
            ("crates/testkit", "crates/store"),
            ("crates/xtask", "crates/testkit"),
            ("examples/shop", "crates/outbox"),
        ] {
            assert!(may(from, to, false), "{from} on {to}");
        }
    }

    #[test]
    fn every_other_edge_is_found() {
        for (from, to) in [
            ("crates/core", "crates/store"),
            ("crates/core", "crates/outbox"),
            ("crates/store", "crates/outbox"),
            ("crates/retry-backoff", "crates/outbox"),
            ("crates/rate-limiter", "crates/circuit-breaker"),
            ("crates/outbox", "crates/buttress"),
            ("crates/outbox", "crates/testkit"),
            ("crates/testkit", "crates/outbox"),
            ("crates/xtask", "crates/outbox"),
            ("crates/outbox", "examples/shop"),
            ("crates/outbox", "crates/error-envelope-derive"),
            ("crates/error-envelope-derive", "crates/error-envelope"),
            ("crates/error-envelope-derive", "crates/core"),
            ("examples/shop", "crates/error-envelope-derive"),
            ("examples/shop", "crates/xtask"),
        ] {
            assert!(!may(from, to, false), "{from} on {to}");
        }
    }

    #[test]
    fn tests_may_use_the_kit_and_no_other_pattern() {
        assert!(may("crates/outbox", "crates/testkit", true));
        assert!(may("crates/core", "crates/testkit", true));
        assert!(may("crates/outbox-derive", "crates/outbox", true));
        assert!(!may("crates/outbox-derive", "crates/saga", true));
        assert!(!may("crates/rate-limiter", "crates/outbox", true));
    }
}
