//! The files for containers say what the worker understands.

use std::{collections::BTreeSet, path::Path, process::Command};

const DOCKERFILE: &str = include_str!("../../Dockerfile");
const COMPOSE: &str = include_str!("../../compose.yaml");
const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// The variables that the program reads, by its own words.
fn read() -> BTreeSet<String> {
    let commands = ["run", "place", "sink"].iter().flat_map(|command| {
        let help = Command::new(env!("CARGO_BIN_EXE_worker"))
            .args([command, "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let variables = help.split("[env: ").skip(1);
        let names = variables.filter_map(|rest| rest.split(['=', ']']).next());
        names.map(str::to_owned).collect::<Vec<_>>()
    });
    commands.collect()
}

/// The words of a file that begin with `WORKER_`, without its comments.
fn named(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| line.split(|it: char| !it.is_ascii_uppercase() && it != '_'));
    let ours = words.filter(|word| word.starts_with("WORKER_"));
    ours.map(str::to_owned).collect()
}

/// What follows `before` on the line that has it.
fn after<'a>(text: &'a str, before: &str) -> &'a str {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(before));
    line.unwrap_or_else(|| panic!("no line begins with {before}"))
        .trim()
}

#[test]
fn every_variable_of_the_files_is_one_that_the_worker_reads() {
    let read = read();
    assert!(read.len() >= 7, "{read:?}");
    for file in [DOCKERFILE, COMPOSE] {
        let named = named(file);
        assert!(!named.is_empty());
        assert!(named.is_subset(&read), "{named:?} of {read:?}");
    }
    // And the page for people names all of them.
    assert!(
        named(include_str!("../../README.md")).is_superset(&read),
        "{read:?}"
    );
}

#[test]
fn what_listens_in_the_container_is_what_is_exposed_published_and_asked_for() {
    let port = after(DOCKERFILE, "EXPOSE ");
    assert_eq!(
        after(DOCKERFILE, "ENV WORKER_LISTEN="),
        format!("0.0.0.0:{port}")
    );
    let published = format!("ports: [\"9091:{port}\"]");
    assert!(COMPOSE.contains(&published), "{published}");
    let sink = format!("http://sink:{port}");
    assert_eq!(after(COMPOSE, "WORKER_API_URL: "), sink);
    assert_eq!(
        after(COMPOSE, "WORKER_WEBHOOK_URL: "),
        format!("{sink}/webhooks")
    );
}

#[test]
fn what_is_copied_and_built_from_is_there() {
    let folder = Path::new(FOLDER);
    let context = folder.join(after(COMPOSE, "context: "));
    assert!(context.join("Cargo.lock").is_file());
    let dockerfile = context.join(after(COMPOSE, "dockerfile: "));
    assert_eq!(std::fs::read_to_string(dockerfile).unwrap(), DOCKERFILE);
    // Built from all of the checkout, and copied from where cargo puts it.
    assert_eq!(after(DOCKERFILE, "COPY . "), ".");
    assert!(
        after(DOCKERFILE, "RUN cargo build ").ends_with(&format!("-p {}", env!("CARGO_PKG_NAME")))
    );
    let binary = Path::new(env!("CARGO_BIN_EXE_worker")).file_stem().unwrap();
    let copied = after(DOCKERFILE, "COPY --from=build /src/target/release/");
    assert!(
        copied.split(' ').next().is_some_and(|name| name == binary),
        "{copied}"
    );
    // A compiler that is new enough.
    let version = |text: &str| {
        let mut parts = text
            .split(['.', '-'])
            .map(|part| part.parse::<u32>().unwrap());
        (parts.next().unwrap(), parts.next().unwrap())
    };
    let image = after(DOCKERFILE, "FROM rust:").split('-').next().unwrap();
    assert!(
        version(image) >= version(env!("CARGO_PKG_RUST_VERSION")),
        "{image}"
    );
}
