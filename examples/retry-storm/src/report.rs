//! What came of each run, as a table.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    service::OUTAGE,
    simulation::{LENGTH, Run},
};

impl Run {
    /// How it ended, in a few words.
    pub(crate) fn told(&self) -> String {
        let recovered = self.recovered_after().map_or_else(
            || format!("still down {} s after the outage", watched()),
            |after| match after.as_secs() {
                0 => "recovers at once".to_owned(),
                seconds => format!("recovers in {seconds} s"),
            },
        );
        format!("{recovered}, {:.2} requests a call", self.amplification())
    }
}

/// For how many seconds the clients are watched after the outage.
fn watched() -> u64 {
    LENGTH.saturating_sub(OUTAGE.0 + OUTAGE.1).as_secs()
}

/// The runs of one capacity.
pub(crate) fn table(runs: &[Run]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "clients with",
        "recovered after",
        "requests a call",
        "peak after the outage",
        "calls that failed after it",
    ]);
    for run in runs {
        let recovered = run.recovered_after();
        table.add_row([
            run.means.name.to_owned(),
            recovered.map_or_else(
                || format!("not in {} s", watched()),
                |it| format!("{} s", it.as_secs()),
            ),
            format!("{:.2}", run.amplification()),
            format!("{} / s", run.peak()),
            run.failed_after().to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
