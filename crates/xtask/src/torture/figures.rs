//! The figures in the docs, made of a report, and whether they still are.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use buttress_testkit::tally::Counts;

use super::{
    letters::{RISKS, Risk},
    report::{MEMORY, Report, Suite, stores},
};

/// The report that the docs show.
pub(crate) const REPORT: &str = "docs/torture.json";

/// A part of a page that is written by us: between its two marks.
pub(crate) struct Section {
    pub(crate) file: &'static str,
    name: &'static str,
    write: fn(&Report) -> String,
}

/// All of them.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        file: "README.md",
        name: "totals",
        write: totals,
    },
    Section {
        file: "docs/RELIABILITY.md",
        name: "homes",
        write: homes,
    },
    Section {
        file: "docs/reliability/suites.md",
        name: "risks",
        write: risks,
    },
];

const END: &str = "<!-- /torture -->";

impl Section {
    fn mark(&self) -> String {
        format!("<!-- torture: {} -->", self.name)
    }

    /// The page as it should be, or `None` where it has no such section.
    pub(crate) fn renew(&self, page: &str, report: &Report) -> Option<String> {
        let mark = self.mark();
        let (before, rest) = page.split_once(&mark)?;
        let (_, after) = rest.split_once(END)?;
        let text = (self.write)(report);
        Some(format!("{before}{mark}\n\n{text}\n{END}{after}"))
    }
}

/// Makes `report` the one that the docs show, and writes their figures anew.
pub(crate) fn write(root: &Path, report: &Path) -> Result<()> {
    let report = Report::read(report)?;
    report.write(&root.join(REPORT))?;
    for section in SECTIONS {
        let path = root.join(section.file);
        let page = fs::read_to_string(&path).with_context(|| section.file.to_owned())?;
        let Some(page) = section.renew(&page, &report) else {
            bail!("{} has no `{}` … `{END}`", section.file, section.mark());
        };
        fs::write(&path, page)?;
        println!("{}: {}", section.file, section.name);
    }
    Ok(())
}

const HEADS: &str = "operations judged | faults injected | futures dropped | killed or stopped | planted bugs found";

fn totals(report: &Report) -> String {
    format!(
        "| torture suites | {HEADS} | violations |\n| --- | --- | --- | --- | --- | --- | --- |\n\
         | {} | {} | {} |\n\n{}\n",
        number(report.suites.len() as u64),
        counted(&report.counts()),
        number(report.violations()),
        origin(report),
    )
}

fn homes(report: &Report) -> String {
    let mut names: Vec<_> = report.suites.iter().map(Suite::home).collect();
    names.sort_unstable();
    names.dedup();
    let mut table = format!(
        "| where | suites | {HEADS} | violations |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for name in names {
        let of: Vec<_> = report
            .suites
            .iter()
            .filter(|it| it.home() == name)
            .collect();
        let violations: u64 = of.iter().map(|suite| suite.violations).sum();
        table += &format!(
            "| {name} | {} | {} | {} |\n",
            of.len(),
            counted(&sum(&of)),
            number(violations)
        );
    }
    table += &by_store(report);
    for orders in &report.orders {
        table += &format!(
            "\nAll {} orders of threads of `{}` ({}), by loom.\n",
            number(orders.orders),
            orders.model,
            super::report::short(&orders.package),
        );
    }
    if !report.fuzz.is_empty() {
        table += "\n| fuzzed | executions | seconds | crashes |\n| --- | --- | --- | --- |\n";
        for it in &report.fuzz {
            table += &format!(
                "| `{}` | {} | {} | {} |\n",
                it.target,
                number(it.executions),
                it.seconds,
                it.crashes
            );
        }
    }
    format!("{table}\n{}\n", origin(report))
}

/// A row for each store, in which a suite on several of them is counted for each.
fn by_store(report: &Report) -> String {
    let mut table = String::new();
    if !report.knows_stores() {
        return table;
    }
    table += &format!(
        "\n| on | suites | {HEADS} | violations |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for store in stores() {
        let of: Vec<_> = report.suites.iter().filter(|it| it.is_on(store)).collect();
        if of.is_empty() {
            continue;
        }
        let violations: u64 = of.iter().map(|suite| suite.violations).sum();
        let on = match store {
            MEMORY => "memory alone".to_owned(),
            store => store.to_owned(),
        };
        table += &format!(
            "| {on} | {} | {} | {} |\n",
            of.len(),
            counted(&sum(&of)),
            number(violations)
        );
    }
    table + "\nA suite on several stores is counted for each of them.\n"
}

/// A run on one store in a line of a table.
pub(crate) fn row_of_a_store(report: &Report) -> String {
    let runs: u64 = report.suites.iter().map(|suite| suite.runs).sum();
    let load = report.load.map_or_else(String::new, |it| it.to_string());
    format!(
        "| store | time | suites | runs | {HEADS} | violations | load |\n| {} | {} | {} | {} | {} | {} | {load} |",
        report.store.as_deref().unwrap_or("all"),
        time(report.seconds),
        report.suites.len(),
        number(runs),
        counted(&report.counts()),
        number(report.violations()),
    )
}

fn risks(report: &Report) -> String {
    let mut table = format!(
        "| | risk | suites | {HEADS} |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for risk in RISKS {
        table += &row(risk, report);
    }
    format!("{table}\n{}\n", origin(report))
}

fn row(risk: &Risk, report: &Report) -> String {
    let of: Vec<_> = report
        .suites
        .iter()
        .filter(|it| it.has(risk.letter))
        .collect();
    let Risk { letter, what, none } = risk;
    if let Some(why) = none {
        return format!("| {letter} | {what} | none: {why} | | | | | |\n");
    }
    let tests: Vec<_> = of
        .iter()
        .map(|suite| format!("{} `{}`", suite.home(), suite.test))
        .collect();
    let (tests, counts) = (tests.join("<br>"), counted(&sum(&of)));
    format!("| {letter} | {what} | {tests} | {counts} |\n")
}

fn sum(suites: &[&Suite]) -> Counts {
    let mut all = Counts::default();
    suites.iter().for_each(|suite| all.add(&suite.counts));
    all
}

fn counted(counts: &Counts) -> String {
    let Counts {
        operations,
        faults,
        drops,
        kills,
        caught,
        ..
    } = *counts;
    [operations, faults, drops, kills, caught]
        .map(number)
        .join(" | ")
}

/// Where the figures come from.
fn origin(report: &Report) -> String {
    let servers: Vec<_> = report.servers.values().map(String::as_str).collect();
    let what = match &*report.of {
        "torture" => "a torture run",
        _ => "an ordinary test run",
    };
    format!(
        "From {what} of {} on {} cores ({}, {} build; {}), kept in `{REPORT}`.",
        time(report.seconds),
        report.cores,
        tier(report),
        report.build,
        servers.join(", ")
    )
}

fn tier(report: &Report) -> String {
    match report.seed {
        Some(seed) => format!("{} tier, seed {seed}", report.tier),
        None => format!("{} tier", report.tier),
    }
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        _ => format!("{} min", seconds / 60),
    }
}

/// With a comma after each third digit from behind.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::report::tests::{line, on, report},
        *,
    };

    #[test]
    fn each_store_has_its_row_and_without_knowledge_there_is_none() {
        let lines = on(&line("a", "OB1", 4_321, 0), "sqlite") + &line("b", "OB2", 7, 0);
        let table = homes(&report(&lines));
        assert!(table.contains("| sqlite | 1 | 4,321 |"), "{table}");
        assert!(table.contains("| memory alone | 1 | 7 |"), "{table}");
        assert!(!table.contains("| redis |"), "{table}");
        assert!(!homes(&report(&line("b", "OB2", 7, 0))).contains("memory"));
    }

    #[test]
    fn a_section_is_renewed_between_its_marks_and_stays_as_it_is_the_second_time() {
        let report = report(&line("a", "OB1 X5", 4_321, 0));
        for section in SECTIONS {
            let page = format!("# One\n\n{}\n(before)\n{END}\n\nTwo.\n", section.mark());
            let renewed = section.renew(&page, &report).unwrap();
            assert!(renewed.contains("4,321") && !renewed.contains("(before)"));
            assert!(renewed.starts_with("# One\n") && renewed.ends_with("\n\nTwo.\n"));
            assert_eq!(section.renew(&renewed, &report), Some(renewed));
            assert_eq!(section.renew("# One\n", &report), None);
        }
    }

    #[test]
    fn numbers_are_written_in_thousands() {
        let told = [0, 12, 999, 1000, 1_234_567].map(number);
        assert_eq!(told, ["0", "12", "999", "1,000", "1,234,567"]);
    }
}
