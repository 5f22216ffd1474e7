//! SQL that is not a literal is vouched for in one place.

use super::{Finding, tree::Tree};

/// sqlx's word for it.
const VOUCHED: &str = "AssertSqlSafe";
/// One file of this folder may say it: the one that renders statements from a checked prefix.
const STORE: &str = "crates/store/src/";
/// It creates and drops databases, whose names cannot be bound, and ships to nobody.
const TESTKIT: &str = "crates/testkit/";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let vouching: Vec<(&str, usize)> = tree
        .rust()
        .filter(|file| file.path.starts_with("crates/") && !file.path.starts_with(TESTKIT))
        .filter_map(|file| Some((file.path.as_str(), *file.code().find(&[VOUCHED]).first()?)))
        .collect();
    let place = vouching.iter().find(|(path, _)| path.starts_with(STORE));
    vouching
        .iter()
        .filter(|file| Some(*file) != place)
        .map(|(path, line)| {
            let what = format!("`{VOUCHED}` belongs in one file of {STORE}");
            Finding::at(path, *line, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_vouched_for_in_one_file_of_the_store() {
        let text = "//! One.\nuse sqlx::AssertSqlSafe;\n";
        let tree = Tree::planted(&[
            ("crates/testkit/src/mysql/database.rs", text),
            ("crates/store/src/prefix.rs", text),
            ("crates/store/src/query.rs", text),
            ("crates/outbox/src/store/postgres.rs", text),
            ("examples/shop/src/main.rs", text),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|it| it.path).collect();
        assert_eq!(
            found,
            [
                "crates/store/src/query.rs",
                "crates/outbox/src/store/postgres.rs"
            ]
        );
    }
}
