//! What is too long for everybody's run: all orders of threads, and the long tier of the tests.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use buttress_testkit::{seed::SEED_VARIABLE, tier::TIER_VARIABLE};
use cargo_metadata::Package;

use crate::{
    cargo::Cargo,
    servers::{Server, Started},
};

/// The cfg under which a crate's atomics are loom's: one of our own, for `cfg(loom)` would break
/// crates that know it as well.
const LOOM: &str = "buttress_loom";

/// The packages that were asked for, or all.
pub(crate) fn chosen<'a>(cargo: &'a Cargo, names: &[String]) -> Result<Vec<&'a Package>> {
    let all = cargo.packages();
    for name in names {
        if !all.iter().any(|package| answers_to(package, name)) {
            let known: Vec<_> = all.iter().map(|package| package.name.as_str()).collect();
            bail!("no package {name}; there are {}", known.join(", "));
        }
    }
    let is_chosen =
        |package: &&Package| names.is_empty() || names.iter().any(|it| answers_to(package, it));
    Ok(all.iter().filter(is_chosen).collect())
}

/// Every order of two threads, for the packages that let loom look at their atomics.
pub(crate) fn all_orders(cargo: &Cargo, packages: &[&Package]) -> Result<()> {
    let flags = format!("--cfg {LOOM}");
    // A folder of its own: other flags make everything anew.
    let folder = cargo.root().join("target/loom");
    let folder = folder.to_string_lossy();
    for package in packages.iter().filter(|package| is_for_loom(package)) {
        let words = ["-p", package.name.as_str(), "--lib", "--release"];
        let words = words.into_iter().chain(["--target-dir", &folder, "loom"]);
        cargo.run("test", words, &[("RUSTFLAGS", &flags)])?;
    }
    Ok(())
}

/// The tests in their long tier, against servers that run for this one run.
pub(crate) fn long_tier(
    cargo: &Cargo,
    packages: &[&Package],
    servers: &[Server],
    seed: Option<u64>,
) -> Result<()> {
    let started = Started::start(servers)?;
    let seed = seed.unwrap_or_else(fresh_seed).to_string();
    let mut environment = started.environment();
    environment.extend([(TIER_VARIABLE, "long"), (SEED_VARIABLE, &seed)]);
    let mut words = vec!["--all-features", "--no-fail-fast", "--release"];
    for package in packages {
        words.extend(["-p", package.name.as_str()]);
    }
    cargo.run("test", words, &environment)
}

/// Says the choice in the command that is printed, so that a run which failed can be repeated.
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| u64::from(since.subsec_nanos()))
}

/// `retry-backoff` is short for `buttress-retry-backoff`.
fn answers_to(package: &Package, name: &str) -> bool {
    let full = package.name.as_str();
    full == name || full.strip_prefix("buttress-") == Some(name)
}

fn is_for_loom(package: &Package) -> bool {
    let mut dependencies = package.dependencies.iter();
    dependencies.any(|it| it.name == "loom")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_chosen_by_their_short_names_and_a_wrong_one_is_refused() {
        let cargo = Cargo::of_this_workspace().unwrap();
        let names = |asked: &[&str]| -> Result<Vec<String>> {
            let asked: Vec<_> = asked.iter().map(ToString::to_string).collect();
            let chosen = chosen(&cargo, &asked)?;
            Ok(chosen.iter().map(|it| it.name.to_string()).collect())
        };
        let breaker = "buttress-circuit-breaker";
        assert_eq!(names(&["circuit-breaker"]).unwrap(), [breaker]);
        assert_eq!(names(&[breaker]).unwrap(), [breaker]);
        assert_eq!(names(&[]).unwrap().len(), cargo.packages().len());
        let refused = names(&["breaker"]).unwrap_err().to_string();
        assert!(refused.contains(breaker), "{refused}");
    }

    #[test]
    fn loom_looks_at_what_depends_on_it() {
        let cargo = Cargo::of_this_workspace().unwrap();
        let all = chosen(&cargo, &[]).unwrap();
        let for_loom = |name: &str| {
            let package = all.iter().find(|package| package.name.as_str() == name);
            is_for_loom(package.unwrap())
        };
        assert!(for_loom("buttress-circuit-breaker"));
        assert!(!for_loom("buttress-core"));
    }
}
