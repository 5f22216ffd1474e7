//! What lies at the root: what the plan of the house names, dotfiles, and what cargo's tools want there.

use std::collections::BTreeSet;

use super::{Finding, tree::Tree};

const ALLOWED: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "benches",
    "clippy.toml",
    "crates",
    "deny.toml",
    "docs",
    "examples",
    "rustfmt.toml",
    "tests",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let entries: BTreeSet<&str> = tree
        .files()
        .iter()
        .filter_map(|file| file.path.split('/').next())
        .collect();
    entries
        .into_iter()
        .filter(|entry| !entry.starts_with('.') && !ALLOWED.contains(entry))
        .map(|entry| Finding::about(entry, "has no place at the root"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_at_the_root_is_found() {
        let tree = Tree::planted(&[
            ("Cargo.toml", ""),
            (".github/workflows/ci.yml", ""),
            ("crates/core/src/lib.rs", ""),
            ("scripts/one.sh", ""),
            ("scripts/two.sh", ""),
        ]);
        let found = check(&tree);
        assert_eq!(
            found,
            [Finding::about("scripts", "has no place at the root")]
        );
    }
}
