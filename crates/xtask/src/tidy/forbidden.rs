//! What must not be left in any code: tests that are not run, work that is not done.

use super::{Finding, tree::Tree};

/// As tokens.
const FORBIDDEN: &[&[&str]] = &[
    &["#", "[", "ignore"],
    &["todo", "!"],
    &["unimplemented", "!"],
    &["dbg", "!"],
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let code = file.code();
        for words in FORBIDDEN {
            let what = format!("`{}` is left in it", words.concat());
            for line in code.find(words) {
                findings.push(Finding::at(&file.path, line, &what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_tests_and_unfinished_work_are_found_in_code_and_in_tests() {
        let text = "//! todo!() in words is fine.\n\
            fn one() { todo!() }\n\
            fn two() { dbg!(1); }\n\
            #[cfg(test)]\n\
            mod tests {\n\
            #[test]\n\
            #[ignore = \"slow\"]\n\
            fn three() { unimplemented!() }\n\
            }\n";
        let tree = Tree::planted(&[("one.rs", text)]);
        let mut lines: Vec<_> = check(&tree).iter().map(|it| it.line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [2, 3, 7, 8]);
    }
}
