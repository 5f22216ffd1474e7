//! The processes of a server, as /proc tells.

use std::fs;

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The processes that descend from `ancestor`, without itself.
pub(crate) fn descendants(ancestor: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, look(pid)?.parent)))
        .collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents.iter().filter(|(_, it)| *it == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// Whether it runs. A process that has ended and that nobody has asked for does not.
pub(crate) fn runs(pid: u32) -> bool {
    look(pid).is_some_and(|it| it.state != "Z" && it.state != "X")
}

/// Whether it stands still, by a signal.
pub(crate) fn is_stopped(pid: u32) -> bool {
    look(pid).is_some_and(|it| it.state == "T")
}

/// Sends a signal. A process that is gone already is no error.
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn send(pid: u32, signal: Signal) -> Result<(), Errno> {
    let pid = i32::try_from(pid).map_err(|_| Errno::EINVAL)?;
    match kill(Pid::from_raw(pid), signal) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

struct Process {
    state: String,
    parent: u32,
}

/// The name of the program, in brackets, may hold anything: what follows the last one is read.
fn look(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?.to_owned();
    let parent = words.next()?.parse().ok()?;
    Some(Process { state, parent })
}
