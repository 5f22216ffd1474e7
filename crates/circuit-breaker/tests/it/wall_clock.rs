//! The wall clock may jump: the breaker does not know it.

use std::{fs, path::Path};

/// The lines of code under this folder that name the wall clock. Comments may.
fn lines_that_know_the_wall_clock(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(lines_that_know_the_wall_clock(&path));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let knows = |line: &&str| {
            let code = line.split("//").next().unwrap_or_default();
            [
                "SystemTime",
                "UNIX_EPOCH",
                "Utc::now",
                "time::OffsetDateTime",
            ]
            .iter()
            .any(|word| code.contains(word))
        };
        found.extend(text.lines().filter(knows).map(ToOwned::to_owned));
    }
    found
}

/// This is the rule, and no experiment: no clock of the machine is moved. What no line reads, no
/// jump of it can reach. Time comes from `core::Clock`, which is monotonic.
#[test]
fn cb8_no_line_of_the_crate_reads_the_wall_clock() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(lines_that_know_the_wall_clock(&source), [""; 0]);
    // And the look can fail: core's reader of HTTP dates has to know it.
    let core = source.join("../../core/src");
    assert!(!lines_that_know_the_wall_clock(&core).is_empty());
}
