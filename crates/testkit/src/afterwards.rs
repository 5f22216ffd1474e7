//! What is done once this process is gone, however it went.
//!
//! A destructor is not run by `kill -9`, by an abort, or for a `static`. A small shell that reads
//! a pipe of ours needs none: when we go, the read ends.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
};

/// A shell that waits for us to go, and then runs its script.
///
/// It has a process group of its own, so a Ctrl-C in the terminal does not end it before its
/// time, and it shares our standard error. Dropping it runs the script at once and waits for its
/// end.
#[derive(Debug)]
pub struct Afterwards {
    shell: Child,
    told: Option<ChildStdin>,
}

impl Afterwards {
    /// Runs the POSIX shell `script` after us. It finds `arguments` in `$1` and following, and
    /// what was [told](Self::tell) in `$told`.
    ///
    /// # Errors
    ///
    /// When there is no `/bin/sh`, or no process or pipe to be had.
    pub fn new<A: AsRef<OsStr>>(
        script: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("told=$(cat)\n{script}"))
            .arg("afterwards")
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let told = shell.stdin.take();
        Ok(Self { shell, told })
    }

    /// Adds a line to what the script will find in `$told`.
    ///
    /// # Errors
    ///
    /// When the shell is gone already.
    pub fn tell(&mut self, line: &str) -> io::Result<()> {
        match &mut self.told {
            Some(told) => writeln!(told, "{line}"),
            None => Ok(()),
        }
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        drop(self.told.take());
        // It fails only when somebody else has waited for it: then it is gone as well.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_runs_the_script_with_what_it_was_given_and_told() {
        let room = tempfile::tempdir().unwrap();
        let note = room.path().join("a note");
        let mut afterwards = Afterwards::new(
            r#"printf '%s|%s' "$told" "$2" >"$1""#,
            [note.as_os_str(), "x y".as_ref()],
        )
        .unwrap();
        afterwards.tell("one").unwrap();
        afterwards.tell("two").unwrap();
        assert!(!note.exists(), "not before its time");
        drop(afterwards);
        assert_eq!(std::fs::read_to_string(note).unwrap(), "one\ntwo|x y");
    }
}
