//! The program, running. Killed when it is dropped.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) struct Process {
    child: Child,
    address: String,
}

fn command(words: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(words).envs(environment.iter().copied());
    command.stderr(Stdio::piped());
    command
}

impl Process {
    /// Waits until it says where it listens.
    pub(crate) fn listening(words: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(words, environment).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| {
            let line: Value = line.unwrap().parse().ok()?;
            let fields = &line["fields"];
            (fields["message"] == "listening")
                .then(|| fields["address"].as_str().unwrap().to_owned())
        });
        // Read on, so that it is never held up by a full pipe.
        std::thread::spawn(move || lines.count());
        Self {
            child,
            address: address.expect("it ended before it listened"),
        }
    }

    /// Runs it to its end.
    pub(crate) fn ended(words: &[&str], environment: &[(&str, &str)]) -> ExitStatus {
        Self::failed(words, environment).0
    }

    /// The same, with what it said.
    pub(crate) fn failed(words: &[&str], environment: &[(&str, &str)]) -> (ExitStatus, String) {
        let mut child = command(words, environment).spawn().unwrap();
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (child.wait().unwrap(), said)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.address);
        let response = reqwest::get(url).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Sends the signal, and waits for the end.
    pub(crate) fn stop(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
        for _ in 0..300 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("it does not stop");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
