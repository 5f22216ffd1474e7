//! Names that say nothing.

use super::{Finding, tree::Tree};

const REFUSED: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files() {
        let said = file
            .path
            .split('/')
            .map(|part| part.split('.').next().unwrap_or_default())
            .find(|part| REFUSED.contains(part));
        if let Some(name) = said {
            let what = format!("`{name}` does not say what is in it");
            findings.push(Finding::about(&file.path, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_found_for_files_and_folders() {
        let tree = Tree::planted(&[
            ("crates/one/src/utils.rs", ""),
            ("crates/one/tests/common/mod.rs", ""),
            ("crates/one/src/uncommon.rs", ""),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|it| it.path).collect();
        assert_eq!(
            found,
            ["crates/one/src/utils.rs", "crates/one/tests/common/mod.rs"]
        );
    }
}
