//! What the supervisor does with servers that misbehave. These are small shells, so nothing is left out.

use std::{cell::Cell, fs, process::Command};

use buttress_testkit::supervisor::{Description, StartError, Starting, Supervised};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::role::{eventually, is_alive, open_to_all};

fn is_ready(starting: &Starting<'_>) -> bool {
    starting.directory().join("ready").exists()
}

fn shell(script: &str) -> Description {
    Description::new("fake", is_ready)
        .account("nobody")
        .step("/bin/sh", ["-c", script])
}

#[test]
fn a_server_that_ends_while_starting_is_an_error_with_the_end_of_its_log() {
    let script = "echo too long ago; printf '%5000s' ''; echo no more disk >&2; exit 7";
    let error = Supervised::start(|_| shell(script)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("/bin/sh ended with status 7 while fake was starting"),
        "{text}"
    );
    assert!(text.ends_with("no more disk"), "{text}");
    assert!(!text.contains("too long ago"), "only the end of it");
}

#[test]
fn a_step_that_fails_ends_the_start() {
    let error = Supervised::start(|_| {
        Description::new("fake", is_ready)
            .account("nobody")
            .step("/bin/sh", ["-c", "exit 3"])
            .step("/bin/sh", ["-c", "touch ready; exec sleep 1000"])
    })
    .unwrap_err();
    let StartError::Ended { status, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(status, "3");
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let nothing: [&str; 0] = [];
    let error = Supervised::start(|_| {
        Description::new("fake", is_ready)
            .account("nobody")
            .step("/no/such program", nothing)
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/no/such program ended with status 127"),
        "{text}"
    );
    assert!(
        text.contains("No such file") || text.contains("not found"),
        "{text}"
    );
}

#[test]
fn words_reach_a_step_as_they_were_given() {
    let server = Supervised::start(|_| {
        Description::new("fake", is_ready)
            .account("nobody")
            .step(
                "/bin/sh",
                [
                    "-c",
                    r#"printf '%s|' "$@" >said"#,
                    "it",
                    "a b",
                    "",
                    "$HOME",
                    "*",
                ],
            )
            .step("/bin/sh", ["-c", "touch ready; exec sleep 1000"])
    })
    .unwrap();
    let said = fs::read_to_string(server.directory().join("said")).unwrap();
    assert_eq!(said, "a b||$HOME|*|");
}

#[test]
fn a_port_is_tried_anew_only_when_it_was_taken_and_not_for_ever() {
    for (script, times) in [("echo Address already in use; exit 1", 5), ("exit 1", 1)] {
        let tried = Cell::new(0);
        let refused = Supervised::start(|_| {
            tried.set(tried.get() + 1);
            shell(script)
        });
        assert!(matches!(refused, Err(StartError::Ended { .. })), "{script}");
        assert_eq!(tried.get(), times, "{script}");
    }
}

#[test]
fn a_server_is_stopped_by_the_signal_that_it_was_described_with() {
    let room = open_to_all();
    let farewell = room.path().join("farewell");
    let script = r#"
        trap 'echo by USR1 >"$1"; exit' USR1
        touch ready
        while :; do sleep 0.05; done"#;
    let server = Supervised::start(|_| {
        let words = ["-c", script, "fake", farewell.to_str().unwrap()];
        Description::new("fake", is_ready)
            .account("nobody")
            .stop_signal("USR1")
            .step("/bin/sh", words)
    })
    .unwrap();
    drop(server);
    assert_eq!(fs::read_to_string(farewell).unwrap(), "by USR1\n");
}

#[test]
fn a_server_that_does_not_stop_is_killed() {
    let server =
        Supervised::start(|_| shell("trap '' TERM; touch ready; while :; do sleep 1; done"))
            .unwrap();
    let (pid, directory) = (server.pid(), server.directory().to_path_buf());
    drop(server);
    assert!(!is_alive(pid));
    assert!(!directory.exists());
}

#[test]
fn what_a_server_has_started_ends_with_it() {
    let server =
        Supervised::start(|_| shell("sleep 1000 & echo $! >child; touch ready; wait")).unwrap();
    let child = fs::read_to_string(server.directory().join("child")).unwrap();
    let child: u32 = child.trim().parse().unwrap();
    assert!(is_alive(child));
    drop(server);
    // It is nobody's child any more, and waits for the system to take notice.
    eventually("its child is gone", || !is_alive(child));
}

#[test]
fn a_supervisor_that_is_told_to_end_cleans_up_as_well() {
    let server = Supervised::start(|_| shell("touch ready; exec sleep 1000")).unwrap();
    let (pid, directory) = (server.pid(), server.directory().to_path_buf());
    let supervisor = server.supervisor_pid().to_string();
    assert!(
        Command::new("kill")
            .arg(supervisor)
            .status()
            .unwrap()
            .success()
    );
    drop(server);
    assert!(!is_alive(pid));
    assert!(!directory.exists());
}

#[test]
fn a_server_that_has_ended_long_ago_is_only_cleaned_up() {
    let server = Supervised::start(|_| shell("touch ready; exec sleep 1000")).unwrap();
    let (pid, directory) = (server.pid(), server.directory().to_path_buf());
    let process = Pid::from_raw(i32::try_from(pid).unwrap());
    kill(process, Signal::SIGKILL).unwrap();
    eventually("its supervisor takes notice", || !is_alive(pid));
    assert!(directory.exists(), "what it wrote can still be read");
    drop(server);
    assert!(!directory.exists());
}
