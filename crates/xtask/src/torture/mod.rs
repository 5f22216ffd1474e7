//! The torture suites: all in one run, for as long as there is time, with a report.

mod binaries;
mod choice;
mod deny;
pub(crate) mod figures;
mod fuzz;
mod judge;
mod letters;
mod orders;
mod report;
mod rounds;
mod setting;
pub(crate) mod sites;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use buttress_testkit::{seed::SEED_VARIABLE, tally::TALLY_VARIABLE, tier::TIER_VARIABLE};

use self::{binaries::Binaries, choice::Choice, rounds::seed_of};
pub(crate) use self::{
    judge::unheard,
    letters::RISKS,
    report::{Report, Suite},
};
use crate::{
    cargo::Cargo,
    report::Report as Parts,
    servers::{Server, Started},
    tidy::Tree,
};

/// Where a run's own report is written, below the workspace's root.
const WRITTEN: &str = "target/torture.json";

/// The same of a run on one store: they may go on side by side.
fn written(store: Option<&str>) -> String {
    store.map_or_else(
        || WRITTEN.to_owned(),
        |store| format!("target/torture-{store}.json"),
    )
}
/// Of a run with an end, this part belongs to libFuzzer.
const FUZZ_SHARE: u32 = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) minutes: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) debug: bool,
    pub(crate) install: bool,
    /// Only suites that run on it.
    pub(crate) store: Option<&'a str>,
    pub(crate) patterns: &'a [String],
}

/// Tortures what is asked for, and writes the report.
pub(crate) fn run(
    cargo: &Cargo,
    parts: &mut Parts,
    servers: &[Server],
    asked: Asked<'_>,
) -> Result<()> {
    let known = Report::read(&cargo.root().join(figures::REPORT))?.suites;
    let targets = fuzz::targets(&cargo.root().join("tests/fuzz"))?;
    let (others, words): (Vec<String>, Vec<String>) = asked
        .patterns
        .iter()
        .cloned()
        .partition(|word| ["fuzz", "deny"].contains(&word.as_str()) || targets.contains(word));
    let is_all = asked.patterns.is_empty() && asked.store.is_none();
    let wants = |what: &str| is_all || others.iter().any(|it| it == what);
    // Who asks for these alone wants no suites.
    let of_suites = others.is_empty() || !words.is_empty();
    let of_fuzz = others.iter().any(|word| word != "deny");
    let choice = choice::choose(cargo, &known, &words, asked.store)?;
    let seed = asked.seed.unwrap_or_else(fresh_seed);
    println!("seed {seed}: `--seed {seed}` repeats its choices");

    let mut report = setting::begin(cargo, servers, "torture");
    report.seed = Some(seed);
    report.store = asked.store.map(str::to_owned);
    let begun = Instant::now();
    let time = Duration::from_secs(60 * u64::from(asked.minutes.unwrap_or(0)));
    if of_suites {
        // What loom looks at is in memory, and what libFuzzer is let loose on is on no store.
        if asked.store.is_none() {
            parts.part("orders", || {
                report.orders = orders::all(cargo, &choice.packages)?;
                Ok(())
            });
        }
        let for_fuzz = match is_all || of_fuzz {
            true => time / FUZZ_SHARE,
            false => Duration::ZERO,
        };
        let for_suites = time - for_fuzz;
        parts.part("suites", || {
            suites(
                cargo,
                servers,
                asked,
                &choice,
                (seed, for_suites),
                &mut report,
            )
        });
    }
    if of_fuzz || (is_all && asked.minutes.is_some()) {
        let for_fuzz = if of_suites { time / FUZZ_SHARE } else { time };
        parts.part("fuzz", || {
            report.fuzz = fuzz::all(cargo, &others, for_fuzz, seed)?;
            Ok(())
        });
    }
    if wants("deny") {
        parts.part("deny", || {
            report.deny = deny::check(cargo, asked.install)?;
            Ok(())
        });
    }
    report.seconds = begun.elapsed().as_secs();
    let written = written(asked.store);
    report.write(&cargo.root().join(&written))?;
    println!("\n{written}: {} violations", report.violations());
    if asked.store.is_some() {
        println!("{}", figures::row_of_a_store(&report));
    }
    // Whole, it must have heard of every suite.
    let sites = match is_all {
        true => sites::of(&Tree::read(cargo.root())?),
        false => Vec::new(),
    };
    parts.part("verdict", || judge::judge(&report, &sites));
    Ok(())
}

/// The suites: each again and again until the time is over, or all tests of whole packages once,
/// in their long tier.
fn suites(
    cargo: &Cargo,
    servers: &[Server],
    asked: Asked<'_>,
    choice: &Choice<'_>,
    (seed, time): (u64, Duration),
    report: &mut Report,
) -> Result<()> {
    let lines = fresh_lines(cargo, asked.store)?;
    let lines = lines.to_string_lossy();
    let started = Started::start(servers)?;
    let mut environment = started.environment();
    environment.push((TALLY_VARIABLE, &lines));
    report.build = if asked.debug { "debug" } else { "release" }.to_owned();
    let failed = if asked.minutes.is_none() && choice.is_whole {
        "long".clone_into(&mut report.tier);
        let seed = seed.to_string();
        environment.extend([(TIER_VARIABLE, "long"), (SEED_VARIABLE, &seed)]);
        let mut words = vec!["--all-features", "--no-fail-fast"];
        words.extend((!asked.debug).then_some("--release"));
        for package in &choice.packages {
            words.extend(["-p", package.name.as_str()]);
        }
        cargo.run("test", words, &environment).err()
    } else {
        let tier = if asked.minutes.is_some() {
            "short"
        } else {
            "long"
        };
        tier.clone_into(&mut report.tier);
        environment.push((TIER_VARIABLE, tier));
        again_and_again(cargo, asked, choice, (seed, time), &environment, report)?
    };
    report.suites = read_lines(Path::new(&*lines))?;
    failed.map_or(Ok(()), Err)
}

fn again_and_again(
    cargo: &Cargo,
    asked: Asked<'_>,
    choice: &Choice<'_>,
    (seed, time): (u64, Duration),
    environment: &[(&str, &str)],
    report: &mut Report,
) -> Result<Option<anyhow::Error>> {
    let packages: Vec<_> = choice.packages.iter().map(|it| it.name.as_str()).collect();
    let binaries = Binaries::build(cargo, &packages, &choice.suites, !asked.debug)?;
    let logs = cargo.root().join("target/torture");
    fs::create_dir_all(&logs)?;
    println!("{} suites", choice.suites.len());
    let failed = Mutex::new(Vec::new());
    let loads = Mutex::new(Vec::new());
    rounds::rounds(
        choice.suites.len(),
        time,
        setting::cores(),
        |number, round| {
            let suite = &choice.suites[number];
            let mut seen = loads.lock().unwrap_or_else(PoisonError::into_inner);
            seen.extend(setting::load());
            drop(seen);
            let seed =
                seed_of(seed, &format!("{} {}", suite.package, suite.test), round).to_string();
            let mut environment = environment.to_vec();
            environment.push((SEED_VARIABLE, &seed));
            let name = format!("{}-{}", suite.home(), suite.test.replace("::", "."));
            let log = logs.join(format!("{name}-{seed}.log"));
            let passed = binaries.run(suite, &environment, &log);
            if matches!(passed, Ok(true)) {
                // What passed has nothing to tell.
                let _ = fs::remove_file(&log);
                return;
            }
            let target = match &*suite.target {
                "it" => "--test it".to_owned(),
                _ => "--lib".to_owned(),
            };
            println!(
                "FAILED: {SEED_VARIABLE}={seed} cargo test -p {} --all-features {target} -- --exact {}\n  {}",
                suite.package,
                suite.test,
                log.display()
            );
            let why = passed
                .err()
                .map_or_else(String::new, |error| format!(": {error:#}"));
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.push(format!("{name}{why}"));
        },
    );
    let loads = loads.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.load = setting::mean(&loads);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let error = || anyhow::anyhow!("{} rounds failed: {}", failed.len(), failed.join(", "));
    Ok((!failed.is_empty()).then(error))
}

/// What an ordinary test run is told, so that its suites report as well.
pub(crate) fn fresh_lines(cargo: &Cargo, store: Option<&str>) -> Result<PathBuf> {
    fs::create_dir_all(cargo.root().join("target"))?;
    let path = cargo.root().join(written(store) + "l");
    fs::write(&path, "").context("the suites have no place for their lines")?;
    Ok(path)
}

/// Makes the report of an ordinary run of all tests, and judges it.
pub(crate) fn ordinary(
    cargo: &Cargo,
    servers: &[Server],
    lines: &Path,
    took: Duration,
) -> Result<()> {
    let mut report = setting::begin(cargo, servers, "test");
    report.suites = read_lines(lines)?;
    report.seconds = took.as_secs();
    report.write(&cargo.root().join(WRITTEN))?;
    let counts = report.counts();
    println!(
        "\n{} torture suites: {} operations, {} faults, {} drops, {} kills, {} planted bugs found, {} violations ({WRITTEN})",
        report.suites.len(),
        counts.operations,
        counts.faults,
        counts.drops,
        counts.kills,
        counts.caught,
        report.violations()
    );
    judge::judge(&report, &sites::of(&Tree::read(cargo.root())?))
}

fn read_lines(path: &Path) -> Result<Vec<Suite>> {
    let lines = fs::read_to_string(path).context("the suites' lines")?;
    let suites = Report::suites_of(&lines)?;
    if suites.is_empty() {
        bail!("no suite reported");
    }
    Ok(suites)
}

/// Says the choice in the command that is printed, so that a run which failed can be repeated.
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| u64::from(since.subsec_nanos()))
}
