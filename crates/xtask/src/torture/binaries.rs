//! The test binaries, built once and run often.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use cargo_metadata::Message;

use super::report::Suite;
use crate::cargo::Cargo;

/// How long a suite may take, before it hangs.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How often it is looked whether one has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where they are, by package and target.
#[derive(Debug)]
pub(crate) struct Binaries(BTreeMap<(String, String), Binary>);

#[derive(Debug)]
struct Binary {
    program: PathBuf,
    /// The package's folder, in which cargo runs it.
    folder: PathBuf,
}

impl Binaries {
    /// Builds those of `packages` in which `suites` are.
    pub(crate) fn build(
        cargo: &Cargo,
        packages: &[&str],
        suites: &[Suite],
        release: bool,
    ) -> Result<Self> {
        let mut words = vec!["--no-run", "--all-features", "--test", "it"];
        // The libraries' own tests are as many again, and few of them are suites.
        let in_libraries = suites.iter().any(|suite| suite.target != "it");
        words.extend(in_libraries.then_some("--lib"));
        words.extend(["--message-format", "json-render-diagnostics"]);
        words.extend(release.then_some("--release"));
        for package in packages {
            words.extend(["-p", package]);
        }
        let told = cargo.hear("test", words, &[])?;
        let mut all = BTreeMap::new();
        for message in Message::parse_stream(told.as_bytes()) {
            let Message::CompilerArtifact(artifact) = message? else {
                continue;
            };
            let Some(program) = artifact.executable.filter(|_| artifact.profile.test) else {
                continue;
            };
            let of = cargo
                .packages()
                .iter()
                .find(|it| it.id == artifact.package_id);
            let (Some(package), Some(folder)) = (of, artifact.manifest_path.parent()) else {
                continue;
            };
            let name = (
                package.name.to_string(),
                artifact.target.name.replace('-', "_"),
            );
            let binary = Binary {
                program: program.into(),
                folder: folder.into(),
            };
            all.insert(name, binary);
        }
        Ok(Self(all))
    }

    /// Runs a suite once. Whether it passed; what it printed is in `log`.
    pub(crate) fn run(
        &self,
        suite: &Suite,
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Result<bool> {
        let name = (suite.package.clone(), suite.target.replace('-', "_"));
        let binary = self.0.get(&name);
        let binary = binary.with_context(|| format!("{} has no {}", name.0, name.1))?;
        let log = File::create(log).context("no log")?;
        let mut child = Command::new(&binary.program)
            .args([&*suite.test, "--exact", "--nocapture"])
            .current_dir(&binary.folder)
            .env("CARGO_PKG_NAME", &suite.package)
            .env("CARGO_MANIFEST_DIR", &binary.folder)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Ok(false);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}
