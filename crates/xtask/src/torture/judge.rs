//! Whether a run says what it should: every suite reported, nothing was violated, all is named.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::{
    letters,
    report::{MEMORY, Report, Suite, stores},
    sites::Site,
};

/// Refuses a run in which something was violated or nothing was done, and, where all of it was to
/// be run, one in which a suite did not report.
pub(crate) fn judge(report: &Report, sites: &[Site]) -> Result<()> {
    let wrong = findings(report, sites);
    if wrong.is_empty() {
        return Ok(());
    }
    for line in &wrong {
        println!("{line}");
    }
    bail!("{} findings about the torture suites", wrong.len());
}

fn findings(report: &Report, sites: &[Site]) -> Vec<String> {
    let mut wrong = Vec::new();
    for suite in &report.suites {
        let name = format!("{} {}", suite.home(), suite.test);
        if suite.violations > 0 {
            wrong.push(format!("{name}: {} violations", suite.violations));
        } else if suite.counts.are_nothing() {
            wrong.push(format!("{name}: nothing was done, so nothing was tested"));
        }
        if let Some(store) = untold(suite).filter(|_| report.knows_stores()) {
            wrong.push(format!(
                "{name}: it is on {store} by its name, and took none"
            ));
        }
        for letter in suite.letters.split(' ').filter(|it| !letters::is_one(it)) {
            wrong.push(format!("{name}: {letter} is the letter of no risk"));
        }
    }
    for fuzzed in report.fuzz.iter().filter(|it| it.crashes > 0) {
        wrong.push(format!("{}: {} crashes", fuzzed.target, fuzzed.crashes));
    }
    wrong.extend(unheard(report, sites));
    wrong
}

/// The store that a suite's name speaks of, where it did not say that it took it.
fn untold(suite: &Suite) -> Option<&'static str> {
    // What the kit starts, it counts; a file of SQLite's is told by the test.
    let words = suite.test.split(['_', ':']);
    let named = words.filter_map(|word| {
        let word = if word == "mariadb" { "mysql" } else { word };
        stores().find(|it| *it == word && *it != MEMORY)
    });
    named.into_iter().find(|store| !suite.is_on(store))
}

/// The suites that did not report.
pub(crate) fn unheard(report: &Report, sites: &[Site]) -> Vec<String> {
    let heard: BTreeSet<_> = report
        .suites
        .iter()
        .map(|suite| (suite.file.as_str(), suite.letters.as_str()))
        .collect();
    let silent = sites
        .iter()
        .filter(|site| !heard.contains(&(site.file.as_str(), site.letters.as_str())));
    silent
        .map(|site| {
            let Site {
                file,
                line,
                letters,
            } = site;
            format!("{file}:{line}: the suite about {letters} did not report")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::report::tests::{line, on, report},
        *,
    };

    fn site(file: &str, letters: &str) -> Site {
        Site {
            file: file.to_owned(),
            line: 7,
            letters: letters.to_owned(),
        }
    }

    #[test]
    fn each_planted_fault_of_a_run_is_found_and_a_sound_run_passes() {
        let here = "crates/outbox/tests/it/crash.rs";
        let good = report(&line("a", "OB1 X5", 4, 0));
        let sites = [site(here, "OB1 X5")];
        assert!(judge(&good, &sites).is_ok());
        let silent = [site(here, "OB1 X5"), site("other.rs", "OB2")];
        assert_eq!(
            findings(&good, &silent),
            ["other.rs:7: the suite about OB2 did not report"]
        );
        let violated = report(&line("a", "OB1 X5", 4, 1));
        assert_eq!(findings(&violated, &sites), ["outbox a: 1 violations"]);
        let unknown = report(&line("a", "OB99", 4, 0));
        assert_eq!(
            findings(&unknown, &[]),
            ["outbox a: OB99 is the letter of no risk"]
        );
        let told = on(&line("killed::on_mariadb", "OB1", 4, 0), "mysql");
        assert_eq!(findings(&report(&told), &[]), [""; 0]);
        let untold = told + &line("killed::on_sqlite", "OB1", 4, 0);
        assert_eq!(
            findings(&report(&untold), &[]),
            ["outbox killed::on_sqlite: it is on sqlite by its name, and took none"]
        );
        let mut idle = good;
        idle.suites[0].counts = Default::default();
        assert!(findings(&idle, &sites)[0].contains("nothing was done"));
        assert!(judge(&idle, &sites).is_err());
    }
}
