//! The figures of the torture suites: the docs show what the kept report says, and it knows all
//! suites.

use super::{Finding, Tree};
use crate::torture::{
    RISKS, Report,
    figures::{REPORT, SECTIONS},
    sites, unheard,
};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    // A tree without it is one that is planted for another rule.
    let Some(file) = tree.get(REPORT) else {
        return Vec::new();
    };
    let report = match Report::parse(&file.text) {
        Ok(report) => report,
        Err(error) => return vec![Finding::about(REPORT, format!("{error:#}"))],
    };
    let mut findings = Vec::new();
    for section in SECTIONS {
        let page = tree.get(section.file).map_or("", |page| &page.text);
        if section.renew(page, &report).as_deref() != Some(page) {
            let what = format!("its figures are not those of {REPORT}: cargo xtask figures");
            findings.push(Finding::about(section.file, what));
        }
    }
    for what in unheard(&report, &sites::of(tree)) {
        let what =
            format!("{what} in it: cargo xtask unit, cargo xtask figures target/torture.json");
        findings.push(Finding::about(REPORT, what));
    }
    for risk in RISKS {
        let has_suite = report.suites.iter().any(|suite| suite.has(risk.letter));
        if has_suite == risk.none.is_some() {
            let what = match has_suite {
                true => "has a suite, and is said to have none",
                false => "has no suite, and nobody says why",
            };
            findings.push(Finding::about(REPORT, format!("{} {what}", risk.letter)));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_not_the_reports_and_suites_that_it_does_not_know_are_found() {
        let report = r#"{"schema": 1, "of": "test", "commit": "", "changed": false, "seed": null,
            "tier": "short", "build": "debug", "seconds": 1, "cores": 2, "servers": {},
            "suites": [], "orders": [], "fuzz": [], "deny": ""}"#;
        let opens = concat!("let _tally = tally", "::suite(\"X1\");");
        let mut files = vec![(REPORT, report), ("a.rs", opens)];
        files.extend(SECTIONS.iter().map(|section| (section.file, "# One\n")));
        let found: Vec<_> = check(&Tree::planted(&files))
            .into_iter()
            .map(|it| it.to_string())
            .collect();
        for section in SECTIONS {
            let named = |it: &String| it.starts_with(section.file) && it.contains("figures");
            assert!(found.iter().any(named), "{}", section.file);
        }
        assert!(found.iter().any(|it| it.contains("a.rs:1")), "{found:?}");
        assert!(found.iter().any(|it| it.contains("X1 has no suite")));
        assert!(!found.iter().any(|it| it.contains("RL10")));
        let torn = Tree::planted(&[(REPORT, "{")]);
        assert_eq!(check(&torn).len(), 1);
        assert!(check(&Tree::planted(&[])).is_empty());
    }
}
