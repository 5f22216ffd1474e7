//! The wall clock may jump: the breaker does not know it.

use std::{
    env, fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use buttress_circuit_breaker::CircuitBreaker;
use buttress_testkit::{
    child::{Child, role},
    faketime,
    left_out::LeftOut,
};

use crate::stand::{HOUR, ten_seconds};

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

/// Says what it sees before and after each jump.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock is what jumps here"
)]
fn jumping_role() {
    let Some(role) = role("jumping") else { return };
    let open = CircuitBreaker::new("open");
    open.open_for(HOUR / 2);
    let policy = ten_seconds().time_window(HOUR / 2).build().unwrap();
    let counting = CircuitBreaker::builder("counting").policy(policy).build();
    (0..3).for_each(|_| counting.try_acquire().unwrap().failure());
    let saw = |point: &str| {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let (rest, counts) = (open.retry_after().unwrap(), counting.counts());
        let admits = open.try_acquire().is_ok();
        role.announce(
            point,
            &format!("{wall} {} {admits} {}", rest.as_secs(), counts.failed),
        );
    };
    saw("before");
    for jump in ["forth", "back"] {
        role.wait_at(&format!("before {jump}"));
        saw(jump);
    }
}

#[tokio::test]
async fn cb8_a_jump_of_the_wall_clock_by_an_hour_opens_and_closes_nothing() {
    let tally = buttress_testkit::tally::suite("CB8 X11");
    let library = match faketime::find() {
        Ok(library) => library,
        Err(not_found) => {
            let why = not_found.to_string();
            return LeftOut::new("jumps of the wall clock", why).register();
        }
    };
    let offset = env::temp_dir().join(format!("buttress-offset-{}", std::process::id()));
    let jump_to = |seconds: &str| fs::write(&offset, seconds).unwrap();
    jump_to("+0");
    let mut child = Child::role("jumping", "wall_clock::jumping_role")
        .environment("LD_PRELOAD", &library)
        .environment("FAKETIME_TIMESTAMP_FILE", &offset)
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("DONT_FAKE_MONOTONIC", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .spawn();
    let mut walls = Vec::new();
    for (point, seconds) in [("before", "+0"), ("forth", "+3600"), ("back", "-3600")] {
        if point != "before" {
            jump_to(seconds);
            child.go_on();
        }
        let saw = child.until(point).await;
        let words: Vec<_> = saw.split(' ').collect();
        let [wall, rest, admits, failed] = words[..] else {
            panic!("{saw}")
        };
        walls.push(wall.parse::<i64>().unwrap());
        // The half hour has just begun, and a minute is the patience of the child's parent.
        let rest: u64 = rest.parse().unwrap();
        assert!((1700..=1800).contains(&rest), "{point}: {saw}");
        assert_eq!((admits, failed), ("false", "3"), "{point}");
    }
    child.succeed().await;
    fs::remove_file(&offset).unwrap();
    // And the clock has jumped indeed.
    assert!(
        walls[1] - walls[0] > 3000 && walls[0] - walls[2] > 3000,
        "{walls:?}"
    );
    tally.faults(2);
}
