//! Every Rust file says in its first line what it is about.

use super::{Finding, tree::Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| {
            let first = file.text.lines().next().unwrap_or_default();
            let says = first
                .strip_prefix("//!")
                .is_some_and(|rest| !rest.trim().is_empty());
            !says && !first.starts_with("#![doc = include_str!(")
        })
        .map(|file| {
            Finding::at(
                &file.path,
                1,
                "the first line is not a `//!` that says what this is",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_begin_with_its_subject_is_found() {
        let tree = Tree::planted(&[
            ("good.rs", "//! What it is.\n"),
            ("door.rs", "#![doc = include_str!(\"../README.md\")]\n"),
            ("bare.rs", "use std::fmt;\n"),
            ("empty.rs", ""),
            ("late.rs", "\n//! Late.\n"),
            ("mute.rs", "//!\n//! Late.\n"),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|it| it.path).collect();
        assert_eq!(found, ["bare.rs", "empty.rs", "late.rs", "mute.rs"]);
    }
}
