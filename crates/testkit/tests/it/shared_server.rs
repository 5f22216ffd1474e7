//! The server that a test binary shares, or is given.

use crate::{
    kind::{Kind, for_each_kind},
    role::{Role, entries},
};

for_each_kind! {
    a_given_url_is_used_and_no_server_is_started
    without_a_url_each_of_several_binaries_has_a_server_of_its_own_until_it_ends
}

fn a_given_url_is_used_and_no_server_is_started(kind: &Kind) {
    let given = "scheme://someone@db.example/theirs";
    let mut role = Role::play(&["shared-url", kind.name], Some((kind.variable, given)));
    assert_eq!(role.line(), given);
    assert!(entries(role.temporary.path()).is_empty());
    assert!(role.end_by("return").success());
}

fn without_a_url_each_of_several_binaries_has_a_server_of_its_own_until_it_ends(kind: &Kind) {
    let mut roles = [(); 3].map(|()| Role::play(&["shared-url", kind.name], None));
    let mut urls = roles.each_mut().map(Role::line).to_vec();
    for (role, url) in roles.iter().zip(&urls) {
        assert!(url.contains("127.0.0.1:"), "{url}");
        // A binary starts what it asks for, and nothing else.
        assert_eq!(entries(role.temporary.path()).len(), 1);
    }
    urls.sort();
    urls.dedup();
    assert_eq!(urls.len(), 3);
    let [one, other, third] = &mut roles;
    // The value is a static, whose destructor is never run.
    assert!(one.end_by("return").success());
    assert!(!other.end_by("panic").success());
    third.kill();
    for role in &roles {
        role.leaves_nothing();
    }
}
