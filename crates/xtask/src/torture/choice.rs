//! What of all is tortured: packages, letters, or words of a test's name.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use cargo_metadata::Package;

use super::report::{Suite, short, stores};
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
    store: Option<&str>,
) -> Result<Choice<'a>> {
    let all = cargo.packages();
    if let Some(store) = store {
        if !stores().any(|it| it == store) {
            let all: Vec<_> = stores().collect();
            bail!(
                "{store} is no store of a suite; they are {}",
                all.join(", ")
            );
        }
        if known.iter().all(|suite| suite.stores.is_empty()) {
            bail!(
                "the kept report does not know on which stores suites run: keep a newer one \
                 (`cargo xtask figures target/torture.json`)"
            );
        }
    }
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
    // `store` is the package alone, and not each test with the word in its name.
    let wants = |pattern: &String, suite: &Suite| match is_package(pattern) {
        true => answers_to(&suite.package, pattern),
        false => asks_for(pattern, suite),
    };
    let is_chosen =
        |suite: &&Suite| patterns.is_empty() || patterns.iter().any(|it| wants(it, suite));
    let is_there = |suite: &&Suite| store.is_none_or(|it| suite.is_on(it));
    let suites: Vec<Suite> = known
        .iter()
        .filter(is_chosen)
        .filter(is_there)
        .cloned()
        .collect();
    if let Some(store) = store.filter(|_| suites.is_empty()) {
        bail!("no suite that was asked for runs on {store}");
    }
    // Of fewer packages cargo would build the rest with other features: for all stores once.
    let of = if store.is_some() { known } else { &suites };
    let homes: BTreeSet<_> = of.iter().map(|suite| suite.package.as_str()).collect();
    let packages = all.iter().filter(|package| {
        let name = package.name.as_str();
        homes.contains(name)
            || (store.is_none()
                && (patterns.is_empty() || patterns.iter().any(|it| answers_to(name, it))))
    });
    Ok(Choice {
        packages: packages.collect(),
        suites,
        is_whole: store.is_none() && patterns.iter().all(|pattern| is_package(pattern)),
    })
}

/// A letter, or a word of its name.
fn asks_for(pattern: &str, suite: &Suite) -> bool {
    suite.has(&pattern.to_uppercase()) || suite.test.contains(pattern)
}

/// `retry-backoff` is short for `buttress-retry-backoff`.
fn answers_to(package: &str, name: &str) -> bool {
    package == name || short(package) == name
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
            suite("buttress-circuit-breaker", "soak::after_saga", "CB3"),
            Suite {
                stores: [buttress_testkit::tally::Store::Sqlite].into(),
                ..suite("buttress-saga", "killed::processes", "SG5 X5")
            },
        ];
        let chosen_on = |store: Option<&str>, patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
            let choice = choose(&cargo, &known, &patterns, store)?;
            let suites: Vec<_> = choice.suites.into_iter().map(|it| it.test).collect();
            let packages: Vec<_> = choice
                .packages
                .iter()
                .map(|it| it.name.to_string())
                .collect();
            anyhow::Ok((suites, packages, choice.is_whole))
        };
        let chosen = |patterns: &[&str]| chosen_on(None, patterns);
        let breaker = "buttress-circuit-breaker";
        for name in ["circuit-breaker", breaker] {
            let (suites, packages, is_whole) = chosen(&[name]).unwrap();
            assert_eq!(
                (suites.len(), packages, is_whole),
                (1, vec![breaker.to_owned()], true)
            );
        }
        // Also where a test of another package has the word in its name.
        assert_eq!(chosen(&["saga"]).unwrap().0, ["killed::processes"]);
        let (suites, packages, is_whole) = chosen(&["x5"]).unwrap();
        assert_eq!((suites.len(), packages.len(), is_whole), (1, 1, false));
        assert_eq!(chosen(&["after"]).unwrap().0, ["soak::after_saga"]);
        let (suites, packages, is_whole) = chosen(&[]).unwrap();
        assert_eq!(
            (suites.len(), packages.len(), is_whole),
            (2, cargo.packages().len(), true)
        );
        let refused = chosen(&["breaker"]).unwrap_err().to_string();
        assert!(refused.contains(breaker), "{refused}");

        let on = |store: &str, patterns: &[&str]| chosen_on(Some(store), patterns).unwrap().0;
        assert_eq!(on("sqlite", &[]), ["killed::processes"]);
        assert_eq!(on("memory", &[]), ["soak::after_saga"]);
        let none = chosen_on(Some("sqlite"), &["circuit-breaker"]);
        assert!(none.is_err_and(|it| it.to_string().contains("no suite")));
        let (_, packages, is_whole) = chosen_on(Some("sqlite"), &[]).unwrap();
        assert_eq!((packages.len(), is_whole), (2, false));
        let refused = chosen_on(Some("sybase"), &[]).unwrap_err().to_string();
        assert!(refused.contains("rabbitmq, memory"), "{refused}");
        let unknown = choose(&cargo, &known[..1], &[], Some("sqlite"));
        assert!(unknown.is_err_and(|it| it.to_string().contains("figures")));
    }
}
