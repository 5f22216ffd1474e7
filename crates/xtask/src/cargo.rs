//! Runs cargo in this workspace, and says what it runs.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand, Package};

/// This workspace, and the cargo that runs us.
#[derive(Debug)]
pub(crate) struct Cargo {
    program: OsString,
    metadata: Metadata,
}

impl Cargo {
    pub(crate) fn of_this_workspace() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("cargo does not tell what is in this workspace")?;
        Ok(Self {
            program: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            metadata,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    pub(crate) fn packages(&self) -> &[Package] {
        &self.metadata.packages
    }

    /// The packages that go to a registry.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        self.packages()
            .iter()
            .filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()))
    }

    /// Runs `cargo COMMAND --locked ARGUMENTS`: with the versions that are checked in, wherever
    /// some are.
    pub(crate) fn run<A: Into<String>>(
        &self,
        command: &str,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let mut words = self.locked(command);
        words.extend(arguments.into_iter().map(Into::into));
        self.say_and_run(&words, environment)
    }

    /// Runs a cargo command that knows nothing of versions.
    pub(crate) fn unlocked<A: Into<String>>(
        &self,
        command: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<()> {
        let mut words = vec![command.to_owned()];
        words.extend(arguments.into_iter().map(Into::into));
        self.say_and_run(&words, &[])
    }

    /// What a cargo command prints.
    pub(crate) fn read<A: Into<String>>(
        &self,
        command: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        let mut words = self.locked(command);
        words.extend(arguments.into_iter().map(Into::into));
        let output = self.command(&words).output().context("cargo")?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("cargo {}: {}", words.join(" "), error.trim());
        }
        String::from_utf8(output.stdout).context("cargo prints UTF-8")
    }

    /// Runs a cargo command, and returns what it prints; its progress is shown.
    pub(crate) fn hear<'a>(
        &self,
        command: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: &[(&str, &str)],
    ) -> Result<String> {
        let mut words = self.locked(command);
        words.extend(arguments.into_iter().map(Into::into));
        say(&words, environment);
        let output = self
            .command(&words)
            .envs(environment.iter().copied())
            .stderr(Stdio::inherit())
            .output()
            .context("cargo")?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("cargo {} failed", words[0]);
        }
        Ok(told)
    }

    fn locked(&self, command: &str) -> Vec<String> {
        let lock: PathBuf = self.root().join("Cargo.lock");
        let locked = lock.exists().then(|| "--locked".to_owned());
        [command.to_owned()].into_iter().chain(locked).collect()
    }

    fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(self.root());
        command
    }

    fn say_and_run(&self, words: &[String], environment: &[(&str, &str)]) -> Result<()> {
        say(words, environment);
        let status = self
            .command(words)
            .envs(environment.iter().copied())
            .status()
            .context("cargo")?;
        if !status.success() {
            bail!("cargo {} failed", words[0]);
        }
        Ok(())
    }
}

fn say(words: &[String], environment: &[(&str, &str)]) {
    let said: String = environment
        .iter()
        .map(|(name, value)| format!("{name}='{value}' "))
        .collect();
    println!("$ {said}cargo {}", words.join(" "));
}
