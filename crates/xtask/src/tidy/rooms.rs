//! The same rooms with the same names in every crate: who knows one crate knows all.

use super::{
    Finding,
    tree::{File, Tree},
};

/// The rooms that any crate may have. A room is a file, or a folder of that name.
const ROOMS: &[&str] = &[
    "axum",
    "blocking",
    "cell",
    "error",
    "event",
    "http",
    "lib",
    "machine",
    "metrics",
    "policy",
    "publisher",
    "store",
    "testing",
    "tower",
    "window",
];

/// What may be in the room `store`: the trait, and a dialect a file.
const STORES: &[&str] = &["memory", "mod", "mysql", "postgres", "redis", "sqlite"];

/// The rooms that one crate has beside those: its handle, and what only it is about.
const OWN: &[(&str, &[&str])] = &[
    ("buttress", &["tour"]),
    (
        "cache-aside",
        &[
            "batch", "batcher", "behind", "bus", "cache", "codec", "fetch", "flight", "key",
            "lease", "level", "load", "second", "served", "tag",
        ],
    ),
    (
        "circuit-breaker",
        &[
            "breaker",
            "call",
            "chance",
            "fleet",
            "isolation",
            "keyed",
            "lane",
            "permit",
            "rate",
            "redis",
            "snapshot",
            "sqlx",
            "state",
            "throttle",
        ],
    ),
    (
        "core",
        &[
            "call_error",
            "chain",
            "classify",
            "clock",
            "fault",
            "observer",
            "registry",
            "retry_after",
            "verdict",
        ],
    ),
    (
        "error-envelope",
        &[
            "body",
            "catalogue",
            "client",
            "debug",
            "derive",
            "envelope",
            "field",
            "field_path",
            "format",
            "garde",
            "header",
            "json",
            "page",
            "preset",
            "problem",
            "query",
            "render",
            "rpc",
            "shape",
            "to_problem",
            "validator",
        ],
    ),
    (
        "error-envelope-derive",
        &["attributes", "definition", "expand", "keys", "template"],
    ),
    (
        "idempotency",
        &[
            "begin",
            "completer",
            "consumer",
            "fingerprint",
            "guard",
            "idempotency",
            "key",
            "phase",
            "progress",
            "reaper",
            "run",
            "tracker",
        ],
    ),
    (
        "outbox",
        &[
            "consumer",
            "inbox",
            "message",
            "operations",
            "outbox",
            "relay",
            "wake",
            "webhook",
        ],
    ),
    (
        "rate-limiter",
        &[
            "concurrency",
            "decision",
            "delay",
            "keyed",
            "limiter",
            "queue",
            "shared",
            "told",
        ],
    ),
    (
        "retry-backoff",
        &[
            "attempt", "attempts", "backoff", "budget", "call", "deadline", "dice", "fleet",
            "future", "hedge", "hint", "progress", "redis", "retry", "sqlx",
        ],
    ),
    (
        "saga",
        &[
            "context",
            "definition",
            "drive",
            "graph",
            "id",
            "pruner",
            "rows",
            "run",
            "runner",
            "sagas",
            "step",
            "view",
        ],
    ),
    (
        "store",
        &[
            "after_commit",
            "board",
            "class",
            "connection",
            "dialect",
            "gate",
            "key",
            "lease",
            "migrate",
            "name",
            "redis",
            "sealed",
            "sql",
            "time",
        ],
    ),
];

/// These are no patterns, and are laid out as their work asks.
const EXEMPT: &[&str] = &["testkit", "xtask"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files().iter().filter_map(look).collect()
}

fn look(file: &File) -> Option<Finding> {
    let (folder, inside) = file.path.strip_prefix("crates/")?.split_once("/src/")?;
    if EXEMPT.contains(&folder) {
        return None;
    }
    let (room, rest) = inside.split_once('/').unwrap_or((inside, ""));
    let room = room.strip_suffix(".rs").unwrap_or(room);
    let own = OWN.iter().find(|(name, _)| *name == folder);
    let own = own.map_or(&[][..], |(_, rooms)| rooms);
    if !ROOMS.contains(&room) && !own.contains(&room) {
        let what = format!("`{room}` is no room of {folder}");
        return Some(Finding::about(&file.path, what));
    }
    let dialect = rest.split('/').next().unwrap_or_default();
    let dialect = dialect.strip_suffix(".rs").unwrap_or(dialect);
    if room == "store" && !dialect.is_empty() && !STORES.contains(&dialect) {
        let what = format!("`{dialect}` is no store");
        return Some(Finding::about(&file.path, what));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_without_a_place_in_the_plan_are_found() {
        let tree = Tree::planted(&[
            ("crates/core/src/clock.rs", ""),
            ("crates/outbox/src/clock.rs", ""),
            ("crates/outbox/src/policy.rs", ""),
            ("crates/outbox/src/machine/claim.rs", ""),
            ("crates/outbox/src/store/mod.rs", ""),
            ("crates/outbox/src/store/postgres/claim.rs", ""),
            ("crates/outbox/src/store/cassandra.rs", ""),
            ("crates/outbox/tests/it/anything.rs", ""),
            ("crates/xtask/src/anything.rs", ""),
            ("examples/shop/src/anything.rs", ""),
        ]);
        let found: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "crates/outbox/src/clock.rs: `clock` is no room of outbox",
                "crates/outbox/src/store/cassandra.rs: `cassandra` is no store",
            ]
        );
    }
}
