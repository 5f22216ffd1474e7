//! Children are killed, stopped and awaited at the points that they announce.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    panic::{self, AssertUnwindSafe},
    path::Path,
    time::Duration,
};

use buttress_testkit::{
    child::{Child, Spawn, role},
    eventually::eventually,
    fault::{CrashPoint, Plan, crash_points},
    seed::Seed,
};
use futures_util::FutureExt as _;

use crate::role::is_alive;

const FILE: &str = "BUTTRESS_TESTKIT_TEST_FILE";

fn add_to(file: &Path, line: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    writeln!(file, "{line}").unwrap();
}

/// Says `begun`, waits twice, and writes after each time.
#[test]
fn writer_role() {
    let Some(role) = role("writer") else { return };
    let file = std::env::var_os(FILE).unwrap();
    role.announce("begun", "with 7: all\nis well");
    role.wait_at("before the first");
    add_to(file.as_ref(), "first");
    role.wait_at("before the second");
    add_to(file.as_ref(), "second");
}

/// Says `tick` until it is killed.
#[test]
fn ticker_role() {
    let Some(role) = role("ticker") else { return };
    for number in 0.. {
        role.announce("tick", &number.to_string());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a ticker, stops it, says its number, and waits.
#[tokio::test]
async fn grandparent_role() {
    let Some(role) = role("grandparent") else {
        return;
    };
    let mut ticker = ticker();
    ticker.until("tick").await;
    ticker.stop();
    role.announce("stopped", &ticker.pid().to_string());
    role.wait_at("the end");
}

/// Three operations, with the crash that it was told.
#[tokio::test]
async fn crasher_role() {
    let Some(_role) = role("crasher") else { return };
    let file = std::env::var_os(FILE).unwrap();
    let plan = Plan::<()>::crash(CrashPoint::from_environment().unwrap());
    for operation in ["one", "two", "three"] {
        let done = plan.around(operation, async {
            add_to(file.as_ref(), operation);
            Ok(())
        });
        done.await.unwrap();
    }
}

/// Fails.
#[test]
fn loser_role() {
    let Some(_role) = role("loser") else { return };
    panic!("the loser's last words");
}

fn ticker() -> Child {
    Child::role("ticker", "child::ticker_role").spawn()
}

fn writer(file: &Path) -> Spawn {
    Child::role("writer", "child::writer_role").environment(FILE, file)
}

#[tokio::test]
async fn a_child_is_killed_exactly_at_its_point() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("file");
    let mut child = writer(&file).spawn();
    assert_eq!(child.until("begun").await, "with 7: all is well");
    child.until("before the first").await;
    assert!(!file.exists());
    child.go_on();
    child.until("before the second").await;
    child.kill();
    assert!(!is_alive(child.pid()));
    assert_eq!(child.end().await.signal(), Some(9));
    assert_eq!(fs::read_to_string(&file).unwrap(), "first\n");
    let mut whole = writer(&file).spawn();
    whole.go_on();
    whole.go_on();
    whole.succeed().await;
    assert_eq!(whole.count("before the second"), 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), "first\nfirst\nsecond\n");
}

#[tokio::test]
async fn a_stopped_child_stands_still_until_it_is_resumed() {
    let mut child = ticker();
    child.until("tick").await;
    child.stop();
    // What it said before is still read.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ticks = child.count("tick");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(child.count("tick"), ticks);
    child.resume();
    let resumed = eventually("it ticks again", Duration::from_secs(60), async || {
        (child.count("tick") > ticks).then_some(())
    });
    resumed.await;
}

#[tokio::test]
async fn a_child_is_killed_after_a_time_that_the_seed_chooses() {
    let range = Duration::from_millis(5)..Duration::from_millis(50);
    let mut times = Vec::new();
    for _ in 0..2 {
        let seed = Seed::from(42);
        let mut child = ticker();
        child.until("tick").await;
        times.push(child.kill_within(range.clone(), &mut seed.rng()).await);
        assert!(!is_alive(child.pid()));
    }
    assert_eq!(times[0], times[1]);
    assert!(range.contains(&times[0]));
}

#[tokio::test]
async fn a_child_crashes_at_each_point_and_has_done_what_came_before() {
    let room = tempfile::tempdir().unwrap();
    for point in crash_points(3) {
        let file = room.path().join(point.to_string());
        fs::write(&file, "").unwrap();
        let mut child = Child::role("crasher", "child::crasher_role")
            .environment(FILE, &file)
            .environment(CrashPoint::VARIABLE, point.to_string())
            .spawn();
        child.abort().await;
        let done = fs::read_to_string(&file).unwrap().lines().count();
        let expected = match point {
            CrashPoint::Before(number) => number - 1,
            CrashPoint::After(number) => number,
            _ => unreachable!(),
        };
        assert_eq!(u32::try_from(done).unwrap(), expected, "{point}");
    }
}

#[tokio::test]
async fn a_child_that_ends_too_early_is_a_failure_with_its_last_words() {
    for (path, words) in [
        ("child::loser_role", "the loser's last words"),
        ("child::no_such_role", "0 passed"),
    ] {
        let mut child = Child::role("loser", path).spawn();
        let early = AssertUnwindSafe(child.until("never")).catch_unwind().await;
        let text = *early.unwrap_err().downcast::<String>().unwrap();
        assert!(text.starts_with("loser ended before never"), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn a_child_dies_with_its_killed_parent_even_when_it_is_stopped() {
    let mut parent = Child::role("grandparent", "child::grandparent_role").spawn();
    let ticker: u32 = parent.until("stopped").await.parse().unwrap();
    assert!(is_alive(ticker));
    parent.kill();
    let gone = eventually("the ticker is gone", Duration::from_secs(60), async || {
        (!is_alive(ticker)).then_some(())
    });
    gone.await;
}

#[tokio::test]
async fn a_child_dies_with_its_value() {
    let mut child = ticker();
    child.until("tick").await;
    let pid = child.pid();
    let dropped = panic::catch_unwind(AssertUnwindSafe(move || {
        let _child = child;
        panic!("a test fails");
    }));
    dropped.unwrap_err();
    assert!(!is_alive(pid));
}
