//! What a run came to, as a file: `torture.json`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use buttress_testkit::tally::{Counts, Line};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the form: it grows when a reader of the old one would be misled.
pub(crate) const SCHEMA: u32 = 1;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    /// `test` of an ordinary run, `torture` of one that was asked for.
    pub(crate) of: String,
    pub(crate) commit: String,
    /// Whether files had been changed since.
    pub(crate) changed: bool,
    /// What repeats it.
    pub(crate) seed: Option<u64>,
    pub(crate) tier: String,
    pub(crate) build: String,
    /// By the clock on the wall; suites run side by side.
    pub(crate) seconds: u64,
    pub(crate) cores: usize,
    pub(crate) servers: BTreeMap<String, String>,
    pub(crate) suites: Vec<Suite>,
    pub(crate) orders: Vec<Orders>,
    pub(crate) fuzz: Vec<Fuzzed>,
    /// What `cargo deny` said, or why it was not asked.
    pub(crate) deny: String,
}

/// A torture test, in all its rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suite {
    pub(crate) package: String,
    pub(crate) target: String,
    pub(crate) test: String,
    pub(crate) file: String,
    pub(crate) letters: String,
    pub(crate) runs: u64,
    pub(crate) violations: u64,
    pub(crate) counts: Counts,
    pub(crate) millis: u64,
    /// Of each run that drew.
    pub(crate) seeds: Vec<u64>,
}

/// A model, in all orders of its threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Orders {
    pub(crate) package: String,
    pub(crate) model: String,
    pub(crate) orders: u64,
}

/// A target, and what libFuzzer did to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fuzzed {
    pub(crate) target: String,
    pub(crate) executions: u64,
    pub(crate) crashes: u64,
    pub(crate) seconds: u64,
}

impl Suite {
    pub(crate) fn has(&self, letter: &str) -> bool {
        self.letters.split(' ').any(|it| it == letter)
    }

    /// The package without what all of them begin with.
    pub(crate) fn home(&self) -> &str {
        short(&self.package)
    }
}

/// A package's name without what all of them begin with.
pub(crate) fn short(package: &str) -> &str {
    package.strip_prefix("buttress-").unwrap_or(package)
}

impl Report {
    /// The suites of what tests said, those of one test put together.
    pub(crate) fn suites_of(lines: &str) -> Result<Vec<Suite>> {
        let mut suites: BTreeMap<_, Suite> = BTreeMap::new();
        for line in lines.lines() {
            let line: Line = serde_json::from_str(line).context("no line of a suite")?;
            let name = (
                line.package.clone(),
                line.target.clone(),
                line.test.clone(),
                line.letters.clone(),
            );
            let suite = suites.entry(name).or_insert_with(|| Suite {
                package: line.package,
                target: line.target,
                test: line.test,
                file: line.file,
                letters: line.letters,
                ..Suite::default()
            });
            suite.runs += 1;
            suite.violations += line.violations;
            suite.counts.add(&line.counts);
            suite.millis += line.millis;
            suite.seeds.extend(line.seed);
        }
        Ok(suites.into_values().collect())
    }

    /// All that was counted.
    pub(crate) fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.suites.iter().for_each(|suite| all.add(&suite.counts));
        all
    }

    /// All that does not hold.
    pub(crate) fn violations(&self) -> u64 {
        let suites: u64 = self.suites.iter().map(|suite| suite.violations).sum();
        let crashes: u64 = self.fuzz.iter().map(|fuzzed| fuzzed.crashes).sum();
        suites + crashes
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let context = || format!("cannot read {}", path.display());
        let text = fs::read_to_string(path).with_context(context)?;
        Self::parse(&text).with_context(context)
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        if value["schema"] != SCHEMA {
            bail!("its schema is {}, and {SCHEMA} is read", value["schema"]);
        }
        Ok(serde_json::from_value(value)?)
    }

    /// A line for each field, and for each entry of a list: so that two can be compared.
    pub(crate) fn text(&self) -> Result<String> {
        let Value::Object(fields) = serde_json::to_value(self)? else {
            bail!("a report is an object");
        };
        let mut lines = Vec::new();
        for (name, value) in fields {
            let mut line = format!("  {}: ", Value::from(name));
            match value {
                Value::Array(all) if !all.is_empty() => {
                    let all: Vec<_> = all.iter().map(|it| format!("    {it}")).collect();
                    write!(line, "[\n{}\n  ]", all.join(",\n"))?;
                }
                value => write!(line, "{value}")?,
            }
            lines.push(line);
        }
        Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.text()?).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn line(test: &str, letters: &str, operations: u64, violations: u64) -> String {
        format!(
            r#"{{"package":"buttress-outbox","target":"it","test":"{test}","file":"crates/outbox/tests/it/crash.rs","letters":"{letters}","counts":{{"operations":{operations},"faults":1,"drops":2,"kills":3,"caught":0}},"violations":{violations},"millis":7,"seed":5}}"#
        ) + "\n"
    }

    pub(crate) fn report(lines: &str) -> Report {
        Report {
            schema: SCHEMA,
            commit: "c0ffee".to_owned(),
            suites: Report::suites_of(lines).unwrap(),
            ..Report::default()
        }
    }

    #[test]
    fn rounds_of_one_test_are_one_suite_and_everything_is_added_up() {
        let lines =
            line("a", "OB1 X5", 4, 0) + &line("b", "OB2", 1, 1) + &line("a", "OB1 X5", 6, 0);
        let report = report(&lines);
        assert_eq!(report.suites.len(), 2);
        let a = &report.suites[0];
        assert_eq!((a.runs, a.counts.operations, a.millis), (2, 10, 14));
        assert_eq!(a.seeds, [5, 5]);
        assert!(a.has("X5") && !a.has("X"));
        assert_eq!((report.counts().kills, report.violations()), (9, 1));
        assert!(Report::suites_of("{}").is_err());
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_another_schema_is_refused() {
        let report = report(&line("a", "OB1", 4, 0));
        let text = report.text().unwrap();
        assert_eq!(Report::parse(&text).unwrap(), report);
        assert_eq!(text.lines().filter(|it| it.contains("crash.rs")).count(), 1);
        let other = text.replace("\"schema\": 1", "\"schema\": 2");
        assert!(Report::parse(&other).unwrap_err().to_string().contains('2'));
    }
}
