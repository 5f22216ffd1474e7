//! What a published crate carries with it: both licences, a page, and a door that shows the page.

use super::{Finding, tree::Tree};

const FILES: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];
const DOOR: &str = "#![doc = include_str!(\"../README.md\")]";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, _) in tree.published() {
        for file in FILES {
            let path = format!("{folder}/{file}");
            match tree.get(&path) {
                None => findings.push(Finding::about(&path, "is missing in a published crate")),
                Some(lib) if *file == "src/lib.rs" && !lib.text.starts_with(DOOR) => {
                    findings.push(Finding::at(
                        &path,
                        1,
                        format!("does not begin with `{DOOR}`"),
                    ));
                }
                Some(_) => {}
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(manifest: &str, lib: &str, leave_out: &str) -> Vec<String> {
        let files = [
            ("crates/one/Cargo.toml", manifest),
            ("crates/one/LICENSE-APACHE", ""),
            ("crates/one/LICENSE-MIT", ""),
            ("crates/one/README.md", ""),
            ("crates/one/src/lib.rs", lib),
        ];
        let kept: Vec<_> = files
            .into_iter()
            .filter(|(path, _)| !path.ends_with(leave_out))
            .collect();
        check(&Tree::planted(&kept))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn each_missing_file_of_a_published_crate_is_found() {
        assert!(found("[package]", DOOR, "none").is_empty());
        for file in FILES {
            assert_eq!(
                found("[package]", DOOR, file),
                [format!(
                    "crates/one/{file}: is missing in a published crate"
                )]
            );
            assert!(found("[package]\npublish = false", DOOR, file).is_empty());
        }
    }

    #[test]
    fn a_door_that_does_not_show_the_page_is_found() {
        assert_eq!(found("[package]", "//! One.", "none").len(), 1);
    }
}
