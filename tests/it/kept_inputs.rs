//! What libFuzzer is let loose on passes on everything that is kept for it: in each ordinary run, on
//! the ordinary build. A target that does not compile any more is noticed here.

#![allow(
    unused_attributes,
    unreachable_pub,
    dead_code,
    reason = "the targets are programs of their own"
)]
#![allow(clippy::pedantic, clippy::restriction, reason = "as above")]

use std::{fs, path::Path};

#[path = "../fuzz/targets/accept.rs"]
mod accept;
#[path = "../fuzz/targets/board_page.rs"]
mod board_page;
#[path = "../fuzz/targets/body.rs"]
mod body;
#[path = "../fuzz/targets/bus_message.rs"]
mod bus_message;
#[path = "../fuzz/targets/cache_entry.rs"]
mod cache_entry;
#[path = "../fuzz/targets/client_address.rs"]
mod client_address;
#[path = "../fuzz/targets/client_parse.rs"]
mod client_parse;
#[path = "../fuzz/targets/cursor.rs"]
mod cursor;
#[path = "../fuzz/targets/etag.rs"]
mod etag;
#[path = "../fuzz/targets/gateway_config.rs"]
mod gateway_config;
#[path = "../fuzz/targets/idempotency_key.rs"]
mod idempotency_key;
#[path = "../fuzz/targets/idempotency_record.rs"]
mod idempotency_record;
#[path = "../fuzz/targets/journal.rs"]
mod journal;
#[path = "../fuzz/targets/message.rs"]
mod message;
#[path = "../fuzz/targets/policies.rs"]
mod policies;
#[path = "../fuzz/targets/retry_after.rs"]
mod retry_after;
#[path = "../fuzz/targets/webhook.rs"]
mod webhook;

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("accept", accept::run),
    ("board_page", board_page::run),
    ("body", body::run),
    ("bus_message", bus_message::run),
    ("cache_entry", cache_entry::run),
    ("client_address", client_address::run),
    ("client_parse", client_parse::run),
    ("cursor", cursor::run),
    ("etag", etag::run),
    ("gateway_config", gateway_config::run),
    ("idempotency_key", idempotency_key::run),
    ("idempotency_record", idempotency_record::run),
    ("journal", journal::run),
    ("message", message::run),
    ("policies", policies::run),
    ("retry_after", retry_after::run),
    ("webhook", webhook::run),
];

fn home() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

#[test]
fn every_target_passes_on_what_is_kept_for_it_and_on_pieces_of_it() {
    for (name, run) in TARGETS {
        let mut kept = 0;
        for entry in fs::read_dir(home().join("corpus").join(name)).unwrap() {
            let input = fs::read(entry.unwrap().path()).unwrap();
            run(&input);
            // Cut off anywhere, it is what an input is most often.
            let pieces = 1 + input.len() / 16;
            (0..input.len())
                .step_by(pieces)
                .for_each(|at| run(&input[..at]));
            kept += 1;
        }
        assert!(kept > 0, "{name}");
    }
}

#[test]
fn no_target_is_missing_here() {
    let mut found: Vec<_> = fs::read_dir(home().join("targets"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    let known: Vec<_> = TARGETS.iter().map(|it| it.0).collect();
    assert_eq!(found, known);
}
