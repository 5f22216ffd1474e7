//! What a run came to, as a file: `torture.json`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use buttress_testkit::tally::{Counts, Line, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the form: it grows when a reader of the old one would be misled.
pub(crate) const SCHEMA: u32 = 2;
/// The oldest that is read: it does not know on which stores a suite runs.
const OLDEST: u32 = 1;

/// Where suites run that take nothing outside of their process.
pub(crate) const MEMORY: &str = "memory";

/// The stores by which suites are chosen and counted.
pub(crate) fn stores() -> impl Iterator<Item = &'static str> {
    Store::ALL.map(Store::name).into_iter().chain([MEMORY])
}

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
    /// Only suites on this store, where only one was asked for.
    #[serde(default)]
    pub(crate) store: Option<String>,
    /// How many processes wanted to run: the mean of what the system said when a round began.
    #[serde(default)]
    pub(crate) load: Option<f64>,
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
    /// Those that it took in any run. One that takes none runs in memory.
    #[serde(default)]
    pub(crate) stores: BTreeSet<Store>,
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

    /// Whether it runs on `store`: the name of one, or [`MEMORY`].
    pub(crate) fn is_on(&self, store: &str) -> bool {
        match store {
            MEMORY => self.stores.is_empty(),
            _ => self.stores.iter().any(|it| it.name() == store),
        }
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
            suite.stores.extend(line.stores);
        }
        Ok(suites.into_values().collect())
    }

    /// Whether it says on which stores its suites ran. One of the oldest schema does not.
    pub(crate) fn knows_stores(&self) -> bool {
        self.suites.iter().any(|suite| !suite.stores.is_empty())
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
        let mut value: Value = serde_json::from_str(text)?;
        let schema = &value["schema"];
        if !(OLDEST..=SCHEMA).any(|it| *schema == it) {
            bail!("its schema is {schema}, and {OLDEST} to {SCHEMA} are read");
        }
        // What came later is absent, and so unknown.
        value["schema"] = SCHEMA.into();
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

    /// The line of a suite that took a store.
    pub(crate) fn on(line: &str, store: &str) -> String {
        line.replace(
            "\"seed\":5",
            &format!("\"seed\":5,\"stores\":[\"{store}\"]"),
        )
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
        for other in [0, 3] {
            let other = text.replace("\"schema\": 2", &format!("\"schema\": {other}"));
            let refused = Report::parse(&other).unwrap_err().to_string();
            assert!(refused.contains("1 to 2 are read"), "{refused}");
        }
    }

    #[test]
    fn a_report_of_the_oldest_schema_is_read_and_knows_no_stores() {
        let new = report(&on(&line("a", "OB1", 4, 0), "sqlite"));
        assert!(new.knows_stores() && new.suites[0].is_on("sqlite"));
        let mut old: Value = serde_json::from_str(&new.text().unwrap()).unwrap();
        old["schema"] = 1.into();
        for field in ["store", "load"] {
            old.as_object_mut().unwrap().remove(field);
        }
        let suite = old["suites"][0].as_object_mut().unwrap();
        suite.remove("stores");
        let read = Report::parse(&old.to_string()).unwrap();
        assert!(!read.knows_stores());
        assert_eq!((read.schema, read.suites[0].runs), (SCHEMA, 1));
    }

    #[test]
    fn a_suite_is_on_every_store_that_one_of_its_runs_took_and_in_memory_without_any() {
        let a = line("a", "OB1", 4, 0);
        let report = report(&(on(&a, "sqlite") + &on(&a, "redis") + &line("b", "OB2", 1, 0)));
        let on = |number: usize| {
            let suite: &Suite = &report.suites[number];
            stores().filter(|it| suite.is_on(it)).collect::<Vec<_>>()
        };
        assert_eq!((on(0), on(1)), (vec!["sqlite", "redis"], vec![MEMORY]));
    }
}
