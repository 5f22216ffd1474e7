//! What docs/SECURITY.md leans on is there: its tests, and its targets of libFuzzer.

use std::collections::BTreeSet;

use super::{Finding, tree::Tree};

const PAGE: &str = "docs/SECURITY.md";
/// What is shorter is the name of something else.
const SHORTEST: usize = 16;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.get(PAGE) else {
        return Vec::new();
    };
    let functions: BTreeSet<&str> = tree
        .rust()
        .flat_map(|file| file.text.split("fn ").skip(1))
        .filter_map(|rest| rest.split(['(', '<']).next())
        .collect();
    let mut findings = Vec::new();
    for (number, line) in page.text.lines().enumerate() {
        let mut before = "";
        for (at, word) in line.split('`').enumerate() {
            if at.is_multiple_of(2) {
                before = word;
                continue;
            }
            let is_there = if before.ends_with("fuzz target ") {
                tree.get(&format!("tests/fuzz/targets/{word}.rs")).is_some()
            } else {
                !is_a_tests(word) || functions.contains(word)
            };
            if !is_there {
                let what = format!("there is no `{word}`");
                findings.push(Finding::at(PAGE, number + 1, what));
            }
        }
    }
    findings
}

fn is_a_tests(word: &str) -> bool {
    let is_name = |byte: u8| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    word.len() >= SHORTEST && word.contains('_') && word.bytes().all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_or_a_target_that_is_not_there_is_found() {
        let page = "# One\n| a | `a_test_that_is_there`, fuzz target `cursor` | `Key::new` |\n\
            | b | `a_test_that_is_gone`, fuzz target `gone` |\n";
        let code = "async fn a_test_that_is_there() {}";
        let tree = Tree::planted(&[
            (PAGE, page),
            ("tests/it/a.rs", code),
            ("tests/fuzz/targets/cursor.rs", ""),
        ]);
        let found: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "docs/SECURITY.md:3: there is no `a_test_that_is_gone`",
                "docs/SECURITY.md:3: there is no `gone`"
            ]
        );
    }
}
