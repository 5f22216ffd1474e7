//! The parts of a run: what each came to, and how long it took.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

/// The parts so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    passed: bool,
    took: Duration,
}

impl Report {
    /// Runs a part. The next one runs as well when it fails: a run tells all that is wrong.
    pub(crate) fn part(&mut self, name: &'static str, run: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = run();
        let took = start.elapsed();
        if let Err(error) = &result {
            println!("{name}: {error:#}");
        }
        self.parts.push(Part {
            name,
            passed: result.is_ok(),
            took,
        });
    }

    /// Prints the table, and the names of the parts that failed.
    pub(crate) fn sum_up(&self) -> ExitCode {
        if self.parts.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("\n{}", self.table());
        let failed = self.failed();
        if failed.is_empty() {
            return ExitCode::SUCCESS;
        }
        eprintln!("failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }

    fn failed(&self) -> Vec<&'static str> {
        let failed = self.parts.iter().filter(|part| !part.passed);
        failed.map(|part| part.name).collect()
    }

    fn table(&self) -> String {
        let mut table = format!("{:<10} {:<7} {:>8}", "part", "result", "seconds");
        for part in &self.parts {
            let result = if part.passed { "ok" } else { "FAILED" };
            let seconds = part.took.as_secs_f64();
            table += &format!("\n{:<10} {result:<7} {seconds:>8.1}", part.name);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failed_part_stops_no_other_and_is_named() {
        let mut report = Report::default();
        report.part("one", || Ok(()));
        report.part("two", || bail!("planted"));
        report.part("three", || Ok(()));
        assert_eq!(report.failed(), ["two"]);
        let table = report.table();
        let results: Vec<_> = table
            .lines()
            .map(|line| line.split_whitespace().nth(1).unwrap())
            .collect();
        assert_eq!(results, ["result", "ok", "FAILED", "ok"]);
        assert_eq!(report.sum_up(), ExitCode::FAILURE);
    }

    #[test]
    fn a_run_without_failures_succeeds() {
        let mut report = Report::default();
        assert_eq!(report.sum_up(), ExitCode::SUCCESS);
        report.part("one", || Ok(()));
        assert_eq!(report.sum_up(), ExitCode::SUCCESS);
    }
}
