//! All orders of threads, by loom.

use anyhow::Result;
use cargo_metadata::Package;

use super::report::Orders;
use crate::cargo::Cargo;

/// The cfg under which a crate's atomics are loom's: one of our own, for `cfg(loom)` would break
/// crates that know it as well.
const LOOM: &str = "buttress_loom";

/// Every order of two threads, for the packages that let loom look at their atomics.
pub(crate) fn all(cargo: &Cargo, packages: &[&Package]) -> Result<Vec<Orders>> {
    let flags = format!("--cfg {LOOM}");
    // A folder of its own: other flags make everything anew.
    let folder = cargo.root().join("target/loom");
    let folder = folder.to_string_lossy();
    let mut seen = Vec::new();
    for package in packages.iter().filter(|package| is_for_loom(package)) {
        let name = package.name.as_str();
        let words = ["-p", name, "--lib", "--release", "--target-dir", &folder];
        let words = words.into_iter().chain(["loom", "--", "--nocapture"]);
        let told = cargo.hear("test", words, &[("RUSTFLAGS", &flags)])?;
        print!("{told}");
        seen.extend(told.lines().filter_map(|line| orders(name, line)));
    }
    Ok(seen)
}

/// What `loom: a model: 7 orders` says.
fn orders(package: &str, line: &str) -> Option<Orders> {
    let (_, told) = line.split_once("loom: ")?;
    let (model, count) = told.rsplit_once(": ")?;
    Some(Orders {
        package: package.to_owned(),
        model: model.to_owned(),
        orders: count.strip_suffix(" orders")?.parse().ok()?,
    })
}

fn is_for_loom(package: &Package) -> bool {
    let mut dependencies = package.dependencies.iter();
    dependencies.any(|it| it.name == "loom")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loom_looks_at_what_depends_on_it() {
        let cargo = Cargo::of_this_workspace().unwrap();
        let for_loom = |name: &str| {
            let mut packages = cargo.packages().iter();
            is_for_loom(packages.find(|it| it.name.as_str() == name).unwrap())
        };
        assert!(for_loom("buttress-circuit-breaker"));
        assert!(!for_loom("buttress-core"));
    }

    #[test]
    fn what_a_model_says_is_heard_also_behind_what_libtest_says() {
        let told = orders("a", "test loom_one ... loom: a streak: kept: 130 orders").unwrap();
        assert_eq!((&*told.model, told.orders), ("a streak: kept", 130));
        assert_eq!(orders("a", "running 4 tests"), None);
    }
}
