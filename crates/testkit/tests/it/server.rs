//! A private server of each kind begins, answers, comes back, and ends with its parent.

use std::{fs, net::TcpStream, os::unix::fs::MetadataExt as _, path::Path, thread};

use nix::unistd::Uid;

use crate::{
    kind::{Kind, POSTGRES, for_each_kind},
    role::{Role, eventually, is_alive},
};

for_each_kind! {
    a_server_answers_and_is_gone_when_dropped
    a_server_does_not_run_as_root_and_keeps_its_directory_to_itself
    two_servers_run_at_once
    a_killed_server_is_down_until_it_is_restarted_where_it_was
    a_killed_server_is_cleaned_up
    a_server_dies_with_a_killed_parent
    a_server_dies_with_a_parent_killed_while_it_is_made
    a_server_dies_with_a_parent_killed_before_it_has_begun
    a_restarted_server_dies_with_a_parent_that_panics_or_returns
}

fn a_server_answers_and_is_gone_when_dropped(kind: &Kind) {
    let server = (kind.start)();
    let (pid, directory, address) = (
        server.pid(),
        server.directory().to_path_buf(),
        server.address(),
    );
    TcpStream::connect(&address).unwrap();
    assert!(is_alive(pid));
    drop(server);
    assert!(!is_alive(pid));
    assert!(!directory.exists());
    TcpStream::connect(&address).unwrap_err();
}

fn a_server_does_not_run_as_root_and_keeps_its_directory_to_itself(kind: &Kind) {
    let server = (kind.start)();
    let directory = fs::metadata(server.directory()).unwrap();
    assert_eq!(directory.mode() & 0o777, 0o700);
    if Uid::effective().is_root() {
        assert_ne!(directory.uid(), 0);
    }
    let process = format!("/proc/{}", server.pid());
    if Path::new(&process).exists() {
        assert_eq!(fs::metadata(process).unwrap().uid(), directory.uid());
    }
}

fn two_servers_run_at_once(kind: &Kind) {
    let start = kind.start;
    let other = thread::spawn(start);
    let one = start();
    let other = other.join().unwrap();
    assert_ne!(one.directory(), other.directory());
    assert_ne!(one.address(), other.address());
    drop(one);
    assert!(is_alive(other.pid()), "it ends alone");
    TcpStream::connect(other.address()).unwrap();
}

fn a_killed_server_is_down_until_it_is_restarted_where_it_was(kind: &Kind) {
    let server = (kind.start)();
    let (address, directory) = (server.address(), server.directory().to_path_buf());
    let mut last = server.pid();
    for _ in 0..3 {
        server.kill();
        assert!(!is_alive(last));
        TcpStream::connect(&address).unwrap_err();
        server.kill(); // Of what is dead already nothing comes.
        server.restart();
        assert_ne!(server.pid(), last);
        last = server.pid();
        TcpStream::connect(&address).unwrap();
    }
    server.restart();
    assert_ne!(server.pid(), last, "one that runs is stopped before");
    assert_eq!(
        (server.address(), server.directory()),
        (address, &*directory)
    );
    let last = server.pid();
    drop(server);
    assert!(!is_alive(last));
    assert!(!directory.exists());
}

fn a_killed_server_is_cleaned_up(kind: &Kind) {
    let server = (kind.start)();
    let directory = server.directory().to_path_buf();
    server.kill();
    assert!(directory.exists(), "what it wrote can still be read");
    drop(server);
    assert!(!directory.exists());
}

fn a_server_dies_with_a_killed_parent(kind: &Kind) {
    let mut role = Role::play(&["hold", kind.name], None);
    let pid = role.line().parse().unwrap();
    assert!(Path::new(&role.line()).starts_with(role.temporary.path()));
    role.kill();
    role.leaves_nothing();
    assert!(!is_alive(pid));
}

fn a_server_dies_with_a_parent_killed_while_it_is_made(kind: &Kind) {
    let mut role = Role::play(&["hold", kind.name], None);
    role.made(kind.made_early);
    role.kill();
    role.leaves_nothing();
}

fn a_server_dies_with_a_parent_killed_before_it_has_begun(kind: &Kind) {
    let mut role = Role::play(&["hold", kind.name], None);
    role.made("");
    role.kill();
    role.leaves_nothing();
}

fn a_restarted_server_dies_with_a_parent_that_panics_or_returns(kind: &Kind) {
    for (word, succeeds) in [("panic", false), ("return", true)] {
        let mut role = Role::play(&["hold-restarted", kind.name], None);
        let pid = role.line().parse().unwrap();
        assert_eq!(role.end_by(word).success(), succeeds, "{word}");
        // Both run destructors, and these wait.
        assert!(!is_alive(pid), "{word}");
        role.leaves_nothing();
    }
}

#[test]
fn a_temporary_directory_closed_to_the_servers_account_is_not_used() {
    if !POSTGRES.is_here() || !Uid::effective().is_root() {
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    let mut role = Role::play_in(closed, &["hold", "postgres"], None);
    let pid: u32 = role.line().parse().unwrap();
    let directory = role.line();
    assert!(is_alive(pid));
    assert!(
        directory.starts_with("/tmp/buttress-postgres."),
        "{directory}"
    );
    role.kill();
    eventually("the directory is gone", || !Path::new(&directory).exists());
    assert!(!is_alive(pid));
}
