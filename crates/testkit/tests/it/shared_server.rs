//! The server that a test binary shares, or is given.

use crate::role::{Role, entries, has_postgres};

#[test]
fn a_given_url_is_used_and_no_server_is_started() {
    let given = "postgres://someone@db.example/theirs";
    let mut role = Role::play("shared-url", Some(given));
    assert_eq!(role.line(), given);
    assert!(entries(role.temporary.path()).is_empty());
    assert!(role.end_by("return").success());
}

#[test]
fn without_a_url_a_binary_has_a_server_of_its_own_until_it_ends() {
    if !has_postgres() {
        return;
    }
    let mut role = Role::play("shared-url", None);
    let url = role.line();
    assert!(url.starts_with("postgres://postgres@127.0.0.1:"), "{url}");
    assert_eq!(entries(role.temporary.path()).len(), 1);
    // The value is a static, whose destructor is never run.
    assert!(role.end_by("return").success());
    role.leaves_nothing();
}
