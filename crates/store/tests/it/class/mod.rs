//! The tables of classes: each row is produced by a real server, and each row produced is there.

mod mysql;
mod postgres;
mod redis;
mod sqlite;

use buttress_core::Classify as _;
use buttress_store::{DriverError, Phase, StoreError, class::ByStore};
use buttress_testkit::proxy::{Cut, Proxy, Way};

const DOCS: &str = include_str!("../../../src/class/table.md");

/// What one server was made to say.
pub(crate) struct Table {
    heading: &'static str,
    lines: Vec<String>,
}

impl Table {
    pub(crate) const fn of(heading: &'static str) -> Self {
        Self {
            heading,
            lines: Vec::new(),
        }
    }

    /// An error of the driver's, in the phase in which it was provoked.
    pub(crate) fn saw<T, E: DriverError>(&mut self, how: &str, phase: Phase, said: Result<T, E>) {
        let Err(error) = said else {
            panic!("{how}: nothing went wrong")
        };
        self.row(how, &error.judged(phase));
    }

    pub(crate) fn row(&mut self, how: &str, error: &StoreError) {
        let code = error
            .code()
            .map_or(String::new(), |code| format!("`{code}`"));
        buttress_testkit::tally::operation();
        let (phase, kind, class) = (error.phase(), error.kind(), error.class());
        // What a retry and a breaker are told is what the table says.
        let verdict = ByStore.classify(Err::<&(), _>(error));
        assert_eq!(
            (verdict, verdict.class()),
            (error.verdict(), class),
            "{how}"
        );
        let line = format!("| {how} | {code} | {phase:?} | {kind:?} | {class:?} |");
        self.lines.push(line);
    }

    /// Compares with the docs: a row that is not there, or is there and was not seen, fails.
    pub(crate) fn compare(self) {
        let section = DOCS
            .split("\n## ")
            .find_map(|it| it.strip_prefix(self.heading));
        let section = section.unwrap_or_default();
        let documented: Vec<&str> = section
            .lines()
            .filter(|it| it.starts_with("| "))
            .skip(2)
            .collect();
        let seen = self.lines.join("\n");
        assert!(documented == self.lines, "## {}\n\n{seen}\n", self.heading);
    }
}

/// Cuts the connection on which `said` comes next, or else swallows all.
fn disturb(proxy: &Proxy, said: &str, cut: Option<Cut>) {
    match cut {
        Some(cut) => proxy.cut_at(Way::ToServer, said, cut),
        None => [Way::ToServer, Way::ToClient]
            .into_iter()
            .for_each(|way| proxy.black_hole(way)),
    }
}
