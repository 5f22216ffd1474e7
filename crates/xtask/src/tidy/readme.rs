//! The first example of a page can be read at a glance.

use super::{Finding, tree::Tree};

/// It has fewer lines than this, hidden ones not counted.
const LIMIT: usize = 15;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files()
        .iter()
        .filter(|file| file.path == "README.md" || file.path.ends_with("/README.md"))
        .filter_map(|file| {
            let (line, length) = first_example(&file.text)?;
            let what = format!("the first example has {length} lines, and {LIMIT} are too many");
            (length >= LIMIT).then(|| Finding::at(&file.path, line, what))
        })
        .collect()
}

/// Where the first Rust example begins, and how many lines a reader sees of it.
fn first_example(page: &str) -> Option<(usize, usize)> {
    let begin = page.lines().position(|line| line.starts_with("```rust"))?;
    let length = page
        .lines()
        .skip(begin + 1)
        .take_while(|line| !line.starts_with("```"))
        .filter(|line| *line != "#" && !line.starts_with("# "))
        .count();
    Some((begin + 1, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lines: usize) -> String {
        let long = "one();\n".repeat(40);
        format!(
            "# One\n```sh\n{long}```\n```rust\n# hidden\n{}```\n```rust\n{long}```\n",
            "one();\n".repeat(lines)
        )
    }

    #[test]
    fn a_long_first_example_is_found_and_later_ones_may_be_longer() {
        let (good, bad) = (page(14), page(15));
        let tree = Tree::planted(&[("README.md", &good), ("crates/one/README.md", &bad)]);
        let found: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["crates/one/README.md:44: the first example has 15 lines, and 15 are too many"]
        );
    }

    #[test]
    fn a_page_without_an_example_is_in_order() {
        assert!(check(&Tree::planted(&[("docs/README.md", "# One")])).is_empty());
    }
}
