//! A machine is told the time and given its chances: it waits for nothing, locks nothing, asks nobody.

use super::{Finding, tree::Tree};

/// What no `machine` may say, as its tokens.
const FORBIDDEN: &[&[&str]] = &[
    &["async"],
    &["Instant", ":", ":", "now"],
    &["SystemTime"],
    &["tokio"],
    &["Mutex"],
    &["rand"],
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let machines = tree
        .rust()
        .filter(|file| file.stem() == "machine" || file.path.contains("/machine/"));
    for file in machines {
        let code = file.code();
        for words in FORBIDDEN {
            let what = format!("`{}` in a machine", words.concat());
            for line in code.find_shipped(words) {
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
    fn every_forbidden_word_is_found_in_machines_and_in_their_code_alone() {
        let text = "//! No Mutex, no rand.\n\
            async fn one() {}\n\
            fn two() { std::time::Instant::now(); }\n\
            use std::time::SystemTime;\n\
            use tokio::time;\n\
            static M: Mutex<()> = x;\n\
            use rand::Rng;\n\
            #[cfg(test)] mod tests { use rand::Rng; }\n";
        let tree = Tree::planted(&[
            ("crates/one/src/machine.rs", text),
            ("crates/two/src/machine/mod.rs", text),
            ("crates/one/src/limiter.rs", text),
        ]);
        let found: Vec<_> = check(&tree)
            .into_iter()
            .map(|it| (it.path, it.line))
            .collect();
        for path in ["crates/one/src/machine.rs", "crates/two/src/machine/mod.rs"] {
            for line in 2..=7 {
                assert!(found.contains(&(path.to_owned(), line)), "{path}:{line}");
            }
        }
        assert_eq!(found.len(), 12);
    }
}
