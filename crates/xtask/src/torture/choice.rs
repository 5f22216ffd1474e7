//! What of all is tortured: packages, letters, or words of a test's name.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use cargo_metadata::Package;

use super::report::{Suite, short};
use crate::cargo::Cargo;

/// The packages that were asked for.
pub(crate) struct Choice<'a> {
    pub(crate) packages: Vec<&'a Package>,
    pub(crate) suites: Vec<Suite>,
    /// Whether whole packages were asked for, and nothing else.
    pub(crate) is_whole: bool,
}

/// What `patterns` ask for of `known`; of all where there are none.
pub(crate) fn choose<'a>(
    cargo: &'a Cargo,
    known: &[Suite],
    patterns: &[String],
) -> Result<Choice<'a>> {
    let all = cargo.packages();
    let is_package = |name: &str| all.iter().any(|package| answers_to(&package.name, name));
    for pattern in patterns {
        if !is_package(pattern) && !known.iter().any(|suite| asks_for(pattern, suite)) {
            let names: Vec<_> = all.iter().map(|package| package.name.as_str()).collect();
            bail!(
                "{pattern} is no package, no letter of a suite and in no suite's name; the packages are {}",
                names.join(", ")
            );
        }
    }
    let is_chosen =
        |suite: &&Suite| patterns.is_empty() || patterns.iter().any(|it| asks_for(it, suite));
    let suites: Vec<Suite> = known.iter().filter(is_chosen).cloned().collect();
    let homes: BTreeSet<_> = suites.iter().map(|suite| suite.package.as_str()).collect();
    let packages = all.iter().filter(|package| {
        let name = package.name.as_str();
        patterns.is_empty()
            || homes.contains(name)
            || patterns.iter().any(|it| answers_to(name, it))
    });
    Ok(Choice {
        packages: packages.collect(),
        suites,
        is_whole: patterns.iter().all(|pattern| is_package(pattern)),
    })
}

/// `retry-backoff` is short for `buttress-retry-backoff`.
fn answers_to(package: &str, name: &str) -> bool {
    package == name || short(package) == name
}

fn asks_for(pattern: &str, suite: &Suite) -> bool {
    answers_to(&suite.package, pattern)
        || suite.has(&pattern.to_uppercase())
        || suite.test.contains(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(package: &str, test: &str, letters: &str) -> Suite {
        Suite {
            package: package.to_owned(),
            test: test.to_owned(),
            letters: letters.to_owned(),
            ..Suite::default()
        }
    }

    #[test]
    fn packages_letters_and_words_choose_and_what_is_none_of_them_is_refused() {
        let cargo = Cargo::of_this_workspace().unwrap();
        let known = [
            suite("buttress-circuit-breaker", "soak::after", "CB3"),
            suite("buttress-saga", "killed::processes", "SG5 X5"),
        ];
        let chosen = |patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
            let choice = choose(&cargo, &known, &patterns)?;
            let suites: Vec<_> = choice.suites.into_iter().map(|it| it.test).collect();
            let packages: Vec<_> = choice
                .packages
                .iter()
                .map(|it| it.name.to_string())
                .collect();
            anyhow::Ok((suites, packages, choice.is_whole))
        };
        let breaker = "buttress-circuit-breaker";
        for name in ["circuit-breaker", breaker] {
            let (suites, packages, is_whole) = chosen(&[name]).unwrap();
            assert_eq!(
                (suites.len(), packages, is_whole),
                (1, vec![breaker.to_owned()], true)
            );
        }
        let (suites, packages, is_whole) = chosen(&["x5"]).unwrap();
        assert_eq!((suites.len(), packages.len(), is_whole), (1, 1, false));
        assert_eq!(chosen(&["after"]).unwrap().0, ["soak::after"]);
        let (suites, packages, is_whole) = chosen(&[]).unwrap();
        assert_eq!(
            (suites.len(), packages.len(), is_whole),
            (2, cargo.packages().len(), true)
        );
        let refused = chosen(&["breaker"]).unwrap_err().to_string();
        assert!(refused.contains(breaker), "{refused}");
    }
}
