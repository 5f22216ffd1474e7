//! A private Postgres server begins, answers, and ends with its parent.

use std::{fs, net::TcpStream, os::unix::fs::MetadataExt as _, path::Path, thread};

use buttress_testkit::postgres::Server;
use nix::unistd::Uid;

use crate::role::{Role, eventually, has_postgres, is_alive};

/// Where a URL leads: `127.0.0.1:port`.
fn address(server: &Server) -> String {
    let url = server.url("postgres");
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap().to_owned()
}

#[test]
fn a_server_answers_and_is_gone_when_dropped() {
    if !has_postgres() {
        return;
    }
    let server = Server::start().unwrap();
    let (pid, directory, address) = (
        server.pid(),
        server.directory().to_path_buf(),
        address(&server),
    );
    TcpStream::connect(&address).unwrap();
    assert!(is_alive(pid));
    drop(server);
    assert!(!is_alive(pid));
    assert!(!directory.exists());
    TcpStream::connect(&address).unwrap_err();
}

#[test]
fn a_server_does_not_run_as_root_and_keeps_its_directory_to_itself() {
    if !has_postgres() {
        return;
    }
    let server = Server::start().unwrap();
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

#[test]
fn two_servers_run_at_once() {
    if !has_postgres() {
        return;
    }
    let other = thread::spawn(|| Server::start().unwrap());
    let one = Server::start().unwrap();
    let other = other.join().unwrap();
    assert_ne!(one.directory(), other.directory());
    assert_ne!(address(&one), address(&other));
    drop(one);
    assert!(is_alive(other.pid()), "it ends alone");
    TcpStream::connect(address(&other)).unwrap();
}

#[test]
fn a_server_dies_with_a_killed_parent() {
    if !has_postgres() {
        return;
    }
    let mut role = Role::play("hold", None);
    let pid = role.line().parse().unwrap();
    assert!(Path::new(&role.line()).starts_with(role.temporary.path()));
    role.kill();
    role.leaves_nothing();
    assert!(!is_alive(pid));
}

#[test]
fn a_server_dies_with_a_parent_killed_during_initdb() {
    if !has_postgres() {
        return;
    }
    let mut role = Role::play("hold", None);
    role.made("data/base");
    role.kill();
    role.leaves_nothing();
}

#[test]
fn a_server_dies_with_a_parent_killed_before_it_has_begun() {
    if !has_postgres() {
        return;
    }
    let mut role = Role::play("hold", None);
    role.made("");
    role.kill();
    role.leaves_nothing();
}

#[test]
fn a_server_dies_with_a_parent_that_panics_or_returns() {
    if !has_postgres() {
        return;
    }
    for (word, succeeds) in [("panic", false), ("return", true)] {
        let mut role = Role::play("hold", None);
        let pid = role.line().parse().unwrap();
        assert_eq!(role.end_by(word).success(), succeeds, "{word}");
        // Both run destructors, and these wait.
        assert!(!is_alive(pid), "{word}");
        role.leaves_nothing();
    }
}

#[test]
fn a_temporary_directory_closed_to_the_servers_account_is_not_used() {
    if !has_postgres() || !Uid::effective().is_root() {
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    let mut role = Role::play_in(closed, "hold", None);
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
