//! A file is about one idea: its size is limited, and the limits only go down.

use super::{Finding, tree::Tree};

/// Lines of code in a file: neither blanks, nor comments, nor the tests that close it.
const LIMIT: usize = 400;

/// Files that are larger for now, and how large. A number may be lowered, never raised.
const EXCEPTIONS: &[(&str, usize)] = &[];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    check_against(tree, EXCEPTIONS)
}

fn check_against(tree: &Tree, exceptions: &[(&str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _) in exceptions {
        if tree.get(path).is_none() {
            findings.push(Finding::about(
                path,
                "has an exception in sizes.rs, and is gone",
            ));
        }
    }
    for file in tree.rust() {
        let lines = file.code().lines();
        let exception = exceptions.iter().find(|(path, _)| *path == file.path);
        let what = match exception {
            None if lines > LIMIT => {
                format!("{lines} lines of code, of {LIMIT}: divide it by its ideas")
            }
            Some((_, limit)) if lines > *limit => {
                format!("{lines} lines of code, of the {limit} that it was excepted for")
            }
            Some(_) if lines <= LIMIT => {
                format!("{lines} lines of code need no exception in sizes.rs any more")
            }
            Some((_, limit)) if lines < *limit => {
                format!("its exception in sizes.rs must go down from {limit} to {lines}")
            }
            _ => continue,
        };
        findings.push(Finding::about(&file.path, what));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: usize, exception: Option<usize>) -> Vec<String> {
        let text = "struct One;\n\n// one\n".repeat(lines);
        let tree = Tree::planted(&[("one.rs", &text)]);
        let exception = exception.map(|limit| ("one.rs", limit));
        let findings = check_against(&tree, exception.as_slice());
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_over_the_limit_is_found() {
        assert!(found(400, None).is_empty());
        assert_eq!(
            found(401, None),
            ["one.rs: 401 lines of code, of 400: divide it by its ideas"]
        );
    }

    #[test]
    fn an_exception_only_goes_down() {
        assert!(found(450, Some(450)).is_empty());
        assert_eq!(
            found(451, Some(450)),
            ["one.rs: 451 lines of code, of the 450 that it was excepted for"]
        );
        assert_eq!(
            found(420, Some(450)),
            ["one.rs: its exception in sizes.rs must go down from 450 to 420"]
        );
        assert_eq!(
            found(400, Some(450)),
            ["one.rs: 400 lines of code need no exception in sizes.rs any more"]
        );
    }

    #[test]
    fn an_exception_without_its_file_is_found() {
        let findings = check_against(&Tree::planted(&[]), &[("gone.rs", 500)]);
        assert_eq!(findings.len(), 1);
    }
}
