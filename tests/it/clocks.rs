//! Wall clocks that jump, by an hour and by ten years, while the whole house works: what is held is
//! neither lost nor held for ever, and nothing is done twice. PostgreSQL and MySQL go by the
//! server's clock; SQLite, which is embedded, has none but the host's.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_saga::EventKind;
use buttress_testkit::{
    child::{self, Child},
    eventually::eventually_as,
    faketime,
    left_out::LeftOut,
};

use crate::house::{Database, House, PATIENCE, Placed, Terms};

/// A lease so long that no loaded machine lets it run out, and shorter than any of the jumps.
const LEASE: Duration = Duration::from_secs(6);
/// An hour forth and back, ten years forth and back, and where it was.
const JUMPS: [&str; 6] = ["+3600", "-3600", "+315360000", "-315360000", "+5", "+0"];

/// The library that changes a child's clock, unless it is missing.
fn library() -> Option<PathBuf> {
    let found = faketime::find();
    found
        .inspect_err(|why| {
            LeftOut::new(
                "jumps of the wall clock in the whole house",
                why.to_string(),
            )
            .register();
        })
        .ok()
}

/// A clock of a child, which a file moves.
struct Jumping {
    library: PathBuf,
    folder: tempfile::TempDir,
}

impl Jumping {
    fn new(library: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Self { library, folder };
        clock.to("+0");
        clock
    }

    fn to(&self, seconds: &str) {
        // Renamed into its place, so that nobody reads half of it.
        let (new, file) = (self.folder.path().join("new"), self.file());
        fs::write(&new, seconds).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    fn child(&self, database: &Database) -> Child {
        Child::role("works_by_a_clock", "clocks::works_by_a_clock_role")
            .environment("LD_PRELOAD", &self.library)
            .environment("FAKETIME_TIMESTAMP_FILE", self.file())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("DONT_FAKE_MONOTONIC", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("HOUSE_URL", database.url())
            .spawn()
    }
}

/// Places orders and works them off until it may go on; then it says how many it placed, and how
/// often a claim was lost or taken from one who had let it run out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_by_a_clock_role() {
    let Some(role) = child::role("works_by_a_clock") else {
        return;
    };
    let terms = Terms {
        lease: LEASE,
        look: Duration::from_millis(300),
    };
    let url = std::env::var("HOUSE_URL").unwrap();
    let house = House::open_with(&url, terms).await.unwrap();
    // Two runners: each would take what the other let run out.
    let other = House::open_with(&url, terms).await.unwrap();
    let lost = Arc::new(AtomicUsize::new(0));
    let work = |house: &House| {
        let counts = Arc::clone(&lost);
        let working = house.work_seen(move |event| {
            if matches!(
                event,
                EventKind::Lost | EventKind::Claimed { lapsed: true, .. }
            ) {
                counts.fetch_add(1, Relaxed);
            }
        });
        working.unwrap()
    };
    let working = [work(&house), work(&other)];
    let role = Arc::new(role);
    let waits = Arc::clone(&role);
    let told = tokio::task::spawn_blocking(move || waits.wait_at("working"));
    let mut placed = 0;
    while !told.is_finished() {
        assert_eq!(house.surely(placed).await, Placed::Now);
        placed += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = eventually_as("everything is worked off", PATIENCE, async || {
        house.wrong().await
    });
    done.await;
    for working in working {
        working.stop().await;
    }
    role.announce("done", &format!("{placed} {}", lost.load(Relaxed)));
}

/// Lets the child work while its clock jumps, and gives what it said at its end.
async fn jumped(clock: &Jumping, database: &Database, jumps: &[&str]) -> (i64, usize) {
    clock.to("+0");
    let mut child = clock.child(database);
    child.until("working").await;
    for jump in jumps {
        tokio::time::sleep(Duration::from_millis(500)).await;
        clock.to(jump);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    child.go_on();
    let done = child.until("done").await;
    child.succeed().await;
    let (placed, lost) = done.split_once(' ').unwrap();
    (placed.parse().unwrap(), lost.parse().unwrap())
}

#[tokio::test]
async fn on_a_servers_clock_no_lease_is_lost_to_a_jump() {
    let Some(library) = library() else { return };
    for database in Database::servers().await {
        let clock = Jumping::new(library.clone());
        let (placed, lost) = jumped(&clock, &database, &JUMPS).await;
        assert_eq!(lost, 0, "of {placed}");
        let house = House::connect(&database.url()).unwrap();
        let orders = house.number("SELECT COUNT(*) FROM orders").await.unwrap();
        assert_eq!(orders, placed);
        assert_eq!(house.wrong().await, Ok(()));
        house.close().await;
        database.close().await;
    }
}

#[tokio::test]
async fn what_a_process_ten_years_ahead_held_when_it_died_is_free_after_its_lease() {
    let Some(library) = library() else { return };
    for database in Database::servers().await {
        let clock = Jumping::new(library.clone());
        let mut child = clock.child(&database);
        child.until("working").await;
        clock.to("+315360000");
        let house = House::connect(&database.url()).unwrap();
        // It has claimed sagas, lanes and keys by then, years ahead of everybody else.
        let claimed = eventually_as("it holds something", PATIENCE, async || {
            let held = "SELECT COUNT(*) FROM buttress_saga WHERE token IS NOT NULL AND epoch > 0";
            let held = house.number(held).await.unwrap();
            let orders = house.number("SELECT COUNT(*) FROM orders").await.unwrap();
            if held > 0 && orders > 20 {
                Ok(())
            } else {
                Err(format!("{held} of {orders}"))
            }
        });
        claimed.await;
        child.kill();
        let orders = house.number("SELECT COUNT(*) FROM orders").await.unwrap();
        let working = house.work().unwrap();
        let done = eventually_as("everything is worked off", PATIENCE, async || {
            house.wrong().await
        });
        done.await;
        for number in [0, 1, orders] {
            house.surely(number).await;
        }
        working.stop().await;
        house.close().await;
        database.close().await;
    }
}

/// There the host's clock is the store's. Claims run out with a jump ahead; their fences see to it
/// that nothing is done twice. A clock that goes back makes what was claimed or put off ahead of
/// it wait until it is there again, so that is not tried here.
#[tokio::test]
async fn on_sqlite_a_clock_that_jumps_ahead_takes_claims_away_and_does_nothing_twice() {
    let Some(library) = library() else { return };
    let database = Database::Sqlite(tempfile::tempdir().unwrap());
    let clock = Jumping::new(library);
    let (placed, lost) = jumped(&clock, &database, &["+3600", "+7200", "+315360000"]).await;
    // That they are taken away there is what the zero on servers is worth.
    assert!(lost > 0, "of {placed}");
    let house = House::connect(&database.url()).unwrap();
    let orders = house.number("SELECT COUNT(*) FROM orders").await.unwrap();
    assert_eq!(orders, placed);
    assert_eq!(house.wrong().await, Ok(()));
    house.close().await;
}
