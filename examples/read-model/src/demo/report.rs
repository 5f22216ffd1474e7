//! What there is to see, as tables a person can read.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    queries::{Customers, Lag},
    rebuild::Rebuilt,
};

/// What must hold.
pub(crate) struct Check {
    pub(crate) claim: &'static str,
    pub(crate) held: bool,
    pub(crate) found: String,
}

/// What happened, and what must hold.
pub(crate) fn story(events: &[String], view: &Customers, checks: &[Check]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "What happened")?;
    for event in events {
        writeln!(out, "  {event}")?;
    }
    writeln!(out, "\nThe read model\n{}", customers(view))?;
    let mut table = table(&["", "what must hold", "found"]);
    for check in checks {
        let held = if check.held { "held" } else { "BROKEN" };
        table.add_row([held, check.claim, &check.found]);
    }
    writeln!(out, "\n{table}")
}

pub(crate) fn rebuilt(rebuilt: &Rebuilt) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "generation {} is shown: {} events replayed, {} had come already",
        rebuilt.generation, rebuilt.replayed, rebuilt.before
    )
}

pub(crate) fn shown(view: &Customers, lag: Lag) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", customers(view))?;
    writeln!(
        out,
        "behind by {} events, the oldest {} ms old",
        lag.events,
        lag.age.as_millis()
    )
}

fn customers(view: &Customers) -> Table {
    let mut table = table(&["customer", "open", "shipped", "cancelled", "spent"]);
    for (name, it) in view {
        let figures = [it.open, it.shipped, it.cancelled, it.spent].map(|it| it.to_string());
        table.add_row(std::iter::once(name.clone()).chain(figures));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}
