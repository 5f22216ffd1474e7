//! The facade hands everything on: each published library, and each feature of it by its own name.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Package, TargetKind};

use super::Finding;
use crate::cargo::Cargo;

const FACADE: &str = "buttress";
const MANIFEST: &str = "crates/buttress/Cargo.toml";

/// A library of the family: its name, and the features that a user can turn on.
type Library = (String, BTreeSet<String>);

pub(super) fn check(cargo: &Cargo) -> Vec<Finding> {
    let facade = cargo.packages().iter().find(|it| it.name == FACADE);
    let Some(facade) = facade else {
        return vec![Finding::about(MANIFEST, "there is no facade")];
    };
    let depends: BTreeSet<_> = facade.dependencies.iter().map(|it| &*it.name).collect();
    let libraries = cargo.published().filter(|it| is_library(it));
    let libraries = libraries.filter(|it| it.name != FACADE).map(|it| {
        let features = it.features.keys().filter(|it| *it != "default");
        (it.name.to_string(), features.cloned().collect())
    });
    compare(libraries, &depends, &facade.features)
}

/// A derive is re-exported by the crate whose trait it derives.
fn is_library(package: &Package) -> bool {
    let mut kinds = package.targets.iter().flat_map(|target| &target.kind);
    kinds.any(|kind| *kind == TargetKind::Lib)
}

fn compare(
    libraries: impl Iterator<Item = Library>,
    depends: &BTreeSet<&str>,
    features: &BTreeMap<String, Vec<String>>,
) -> Vec<Finding> {
    let mut missing = Vec::new();
    for (library, own) in libraries {
        if !depends.contains(&*library) {
            missing.push(format!("{library} is not re-exported"));
            continue;
        }
        for feature in own {
            let handed_on = [
                format!("{library}/{feature}"),
                format!("{library}?/{feature}"),
            ];
            let here = features.get(&feature);
            if !here.is_some_and(|all| all.iter().any(|it| handed_on.contains(it))) {
                missing.push(format!("`{feature}` is not handed on to {library}"));
            }
        }
    }
    let missing = missing.into_iter();
    missing.map(|it| Finding::about(MANIFEST, it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(features: &[(&str, &[&str])], depends: &[&str]) -> Vec<String> {
        let of = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let features = features.iter().map(|(it, to)| ((*it).to_owned(), of(to)));
        let outbox = (
            "buttress-outbox".to_owned(),
            ["sqlite".to_owned(), "tls".to_owned()].into(),
        );
        let depends = depends.iter().copied().collect();
        let found = compare([outbox].into_iter(), &depends, &features.collect());
        found.into_iter().map(|it| it.what).collect()
    }

    #[test]
    fn what_is_not_handed_on_is_found() {
        let weakly: &[&str] = &["buttress-outbox?/sqlite"];
        let other: &[&str] = &["buttress-saga?/tls"];
        let features = [("sqlite", weakly), ("tls", other)];
        assert_eq!(
            found(&features, &["buttress-outbox"]),
            ["`tls` is not handed on to buttress-outbox"]
        );
        assert_eq!(
            found(&features, &[]),
            ["buttress-outbox is not re-exported"]
        );
        let both = [
            ("sqlite", weakly),
            ("tls", &["buttress-outbox/tls"] as &[&str]),
        ];
        assert_eq!(found(&both, &["buttress-outbox"]), [""; 0]);
    }
}
