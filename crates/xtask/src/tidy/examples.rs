//! Each pattern has a small example that runs with nothing installed.

use super::{Finding, tree::Tree};

/// It has fewer lines than this.
const LIMIT: usize = 80;
/// The crates that a reader meets first.
const PATTERNS: [&str; 8] = [
    "circuit-breaker",
    "retry-backoff",
    "rate-limiter",
    "idempotency",
    "outbox",
    "saga",
    "cache-aside",
    "error-envelope",
];
/// The guided tour's service, which is explained elsewhere, piece by piece.
const TOUR: &str = "crates/buttress/examples/tour.rs";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pattern in PATTERNS {
        let folder = format!("crates/{pattern}/examples");
        if !tree.rust().any(|file| is_in(&file.path, &folder)) {
            findings.push(Finding::about(&folder, "has no example"));
        }
    }
    for file in tree.rust() {
        let Some((package, _)) = file.path.split_once("/examples/") else {
            continue;
        };
        let lines = file.text.lines().count();
        if is_in(&file.path, &format!("{package}/examples")) && lines >= LIMIT && file.path != TOUR
        {
            let what = format!("{lines} lines, and {LIMIT} are too many for an example");
            findings.push(Finding::about(&file.path, what));
        }
    }
    findings
}

/// Whether the file is in that folder, and in no folder below it.
fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|name| !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_an_example_and_a_long_one_are_found() {
        let (small, large) = ("a();\n".repeat(79), "a();\n".repeat(80));
        let mut files: Vec<_> = PATTERNS[1..]
            .iter()
            .map(|pattern| (format!("crates/{pattern}/examples/one.rs"), &small))
            .collect();
        files.push(("crates/saga/examples/two.rs".to_owned(), &large));
        files.push((TOUR.to_owned(), &large));
        files.push(("examples/app/src/main.rs".to_owned(), &large));
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let found: Vec<_> = check(&Tree::planted(&files))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "crates/circuit-breaker/examples: has no example",
                "crates/saga/examples/two.rs: 80 lines, and 80 are too many for an example",
            ]
        );
    }
}
