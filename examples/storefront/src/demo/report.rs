//! What happened, as tables a person can read.

use std::{collections::BTreeMap, io::Write, time::Duration};

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{
    customers::OrderSeen,
    invariants::Check,
    scenes::{Answers, Told},
};

/// Prints everything to standard output.
pub(super) fn print(told: &[Told], orders: &[OrderSeen], checks: &[Check]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nWhat the customers saw\n{}", scenes(told))?;
    writeln!(out, "\nWhat became of their orders\n{}", ends(orders))?;
    writeln!(out, "\nWhat must hold\n{}", held(checks))?;
    writeln!(out, "\n{}", verdict(checks))
}

/// The last line, for who reads nothing else.
pub(super) fn verdict(checks: &[Check]) -> &'static str {
    if checks.iter().all(|check| check.held) {
        "Every invariant held."
    } else {
        "AN INVARIANT WAS BROKEN."
    }
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

fn scenes(told: &[Told]) -> Table {
    let mut table = table(&[
        "while", "orders", "replays", "quotes", "median", "longest", "open",
    ]);
    for scene in told {
        for (kind, answers) in [("orders", &scene.orders), ("quotes", &scene.quotes)] {
            let Some((median, longest)) = answers.times() else {
                continue;
            };
            let counted = statuses(answers);
            let (orders, quotes) = if kind == "orders" {
                (counted, String::new())
            } else {
                (String::new(), counted)
            };
            let replays = if answers.replayed > 0 {
                answers.replayed.to_string()
            } else {
                String::new()
            };
            table.add_row([
                scene.title.to_owned(),
                orders,
                replays,
                quotes,
                millis(median),
                millis(longest),
                scene.open.join(", "),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(4).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn statuses(answers: &Answers) -> String {
    let each = answers
        .by_status
        .iter()
        .map(|(status, count)| format!("{count} × {status}"));
    each.collect::<Vec<_>>().join(", ")
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

pub(super) fn ends(orders: &[OrderSeen]) -> Table {
    let mut counted: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for order in orders {
        let reason = order.reason.as_deref().unwrap_or_default();
        *counted.entry((&order.status, reason)).or_default() += 1;
    }
    let mut table = table(&["status", "reason", "orders"]);
    for ((status, reason), count) in counted {
        table.add_row([status.to_owned(), reason.to_owned(), count.to_string()]);
    }
    table
}

pub(super) fn held(checks: &[Check]) -> Table {
    let mut table = table(&["", "invariant", "found"]);
    for check in checks {
        table.add_row([
            if check.held { "held" } else { "BROKEN" },
            check.claim,
            &check.found,
        ]);
    }
    table
}
