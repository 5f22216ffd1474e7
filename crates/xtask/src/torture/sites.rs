//! Where in the code suites are opened: each of them must report.

use crate::tidy::Tree;

/// A line that opens a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) letters: String,
}

/// The words that open one, put together so that they are not found here.
const OPENS: &str = concat!("tally", "::suite(\"");

/// Those of the tests. What only loom runs reports by itself.
pub(crate) fn of(tree: &Tree) -> Vec<Site> {
    let mut sites = Vec::new();
    for file in tree.rust() {
        for (number, text) in file.text.lines().enumerate() {
            let Some((_, rest)) = text.split_once(OPENS) else {
                continue;
            };
            if let Some((letters, _)) = rest.split_once('"') {
                sites.push(Site {
                    file: file.path.clone(),
                    line: number + 1,
                    letters: letters.to_owned(),
                });
            }
        }
    }
    sites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_opens_a_suite_is_found() {
        let text = format!("fn one() {{\n    let _tally = kit::{OPENS}X1 CB3\");\n}}\n");
        let tree = Tree::planted(&[("a.rs", &text), ("b.md", &text)]);
        let found = of(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].letters.as_str()), (2, "X1 CB3"));
    }
}
