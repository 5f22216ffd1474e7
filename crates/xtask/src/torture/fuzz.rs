//! libFuzzer, let loose on every reader of what strangers send: on the stable compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{report::Fuzzed, rounds::seed_of};
use crate::cargo::Cargo;

/// What makes the stable compiler count edges and tell libFuzzer what is compared.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions";
/// What it is built for is said, or the flags would be the build scripts' as well.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const LONGEST_INPUT: u32 = 4096;

/// Lets it loose on the targets that `patterns` name, or on all, for `time` in all.
pub(crate) fn all(
    cargo: &Cargo,
    patterns: &[String],
    time: Duration,
    seed: u64,
) -> Result<Vec<Fuzzed>> {
    let home = cargo.root().join("tests/fuzz");
    let targets: Vec<_> = targets(&home)?
        .into_iter()
        .filter(|target| is_chosen(target, patterns))
        .collect();
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    build(&home)?;
    let each = time / u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let mut fuzzed = Vec::new();
    for target in targets {
        let one = run(&home, &target, each, seed)?;
        println!(
            "{target}: {} executions in {} s, {} crashes",
            one.executions, one.seconds, one.crashes
        );
        fuzzed.push(one);
    }
    Ok(fuzzed)
}

/// All of them, by the files in which they are.
pub(crate) fn targets(home: &Path) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(home.join("targets")).context("no fuzz targets")? {
        let path = entry?.path();
        if let Some(stem) = path.file_stem() {
            targets.push(stem.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

/// Without patterns all are, and `fuzz` asks for all.
pub(crate) fn is_chosen(target: &str, patterns: &[String]) -> bool {
    patterns.is_empty() || patterns.iter().any(|it| it == "fuzz" || it == target)
}

fn build(home: &Path) -> Result<()> {
    println!("$ cargo build --release --target {TRIPLE} (in tests/fuzz, for libFuzzer)");
    let status = Command::new("cargo")
        .args([
            "build",
            "--locked",
            "--release",
            "--target",
            TRIPLE,
            "--bins",
        ])
        .current_dir(home)
        .env("RUSTFLAGS", COVERAGE)
        .status()?;
    if !status.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(())
}

fn run(home: &Path, target: &str, time: Duration, seed: u64) -> Result<Fuzzed> {
    let found = home.join("target/found").join(target);
    let kept = home.join("corpus").join(target);
    let artifacts = home.join("artifacts");
    for folder in [&found, &artifacts] {
        fs::create_dir_all(folder)?;
    }
    let program: PathBuf = home
        .join("target")
        .join(TRIPLE)
        .join("release")
        .join(target);
    // libFuzzer's seeds have 32 bits, and 0 means another one each time.
    let seed = (seed_of(seed, target, 0) >> 33).max(1);
    let begun = Instant::now();
    let output = Command::new(program)
        .arg(&found)
        .args(kept.is_dir().then_some(&kept))
        .arg(format!("-max_total_time={}", time.as_secs().max(1)))
        .arg(format!("-max_len={LONGEST_INPUT}"))
        .arg(format!("-seed={seed}"))
        .arg("-print_final_stats=1")
        .arg(format!(
            "-artifact_prefix={}/{target}-",
            artifacts.display()
        ))
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{target} cannot be run"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<_> = told.lines().collect();
        println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
    }
    Ok(Fuzzed {
        target: target.to_owned(),
        executions: executions(&told),
        crashes: (!output.status.success()).into(),
        seconds: begun.elapsed().as_secs(),
    })
}

fn executions(told: &str) -> u64 {
    let told = told.lines().find_map(|line| {
        let (_, count) = line.split_once("stat::number_of_executed_units:")?;
        count.trim().parse().ok()
    });
    told.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_their_names_or_all_at_once() {
        let asked = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(is_chosen("cursor", &asked(&[])));
        assert!(is_chosen("cursor", &asked(&["fuzz"])));
        assert!(is_chosen("cursor", &asked(&["saga", "cursor"])));
        assert!(!is_chosen("cursor", &asked(&["saga"])));
    }

    #[test]
    fn every_target_is_in_the_manifest_and_has_a_corpus() {
        let cargo = Cargo::of_this_workspace().unwrap();
        let home = cargo.root().join("tests/fuzz");
        let manifest = fs::read_to_string(home.join("Cargo.toml")).unwrap();
        for target in targets(&home).unwrap() {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
            assert!(home.join("corpus").join(&target).is_dir(), "{target}");
        }
    }

    #[test]
    fn what_libfuzzer_counted_is_read() {
        let told = "#7 DONE\nstat::number_of_executed_units: 677202\nstat::peak_rss_mb: 40\n";
        assert_eq!(executions(told), 677_202);
        assert_eq!(executions("==1== ERROR"), 0);
    }
}
