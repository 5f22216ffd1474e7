//! What a test did to what it tests: told to who asks by a variable, and to nobody else.
//!
//! A torture test opens a [`suite`] in its first line, and says in it which risks it is about. What
//! the kit does on its thread is counted by itself: futures dropped by a sweep, faults of a plan,
//! processes and servers that are killed, and on which stores it runs. The test adds what only it
//! knows. At its end one line goes to the file that [`TALLY_VARIABLE`] names; `cargo xtask` makes the report of these lines.

use std::{
    any::type_name,
    cell::RefCell,
    collections::BTreeSet,
    env,
    fs::OpenOptions,
    io::Write as _,
    panic::Location,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use serde::{Deserialize, Serialize};

/// The variable that names the file to which suites add their lines. Unset, nothing is written.
pub const TALLY_VARIABLE: &str = "BUTTRESS_TEST_TALLY";

/// What a suite counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Calls, messages, decisions, cases: what was done and judged.
    pub operations: u64,
    /// Errors, cuts, black holes, jumps of clocks, damaged bytes that were injected.
    pub faults: u64,
    /// Futures dropped where they waited, and callers who left.
    pub drops: u64,
    /// Processes and servers killed or stopped.
    pub kills: u64,
    /// Bugs planted and found by the check that must find them.
    pub caught: u64,
}

impl Counts {
    /// Whether nothing was done at all.
    #[must_use]
    pub fn are_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds others to these.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.faults += other.faults;
        self.drops += other.drops;
        self.kills += other.kills;
        self.caught += other.caught;
    }
}

/// Something outside of the process on which a suite runs. A suite with none runs in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// A PostgreSQL server.
    Postgres,
    /// A MariaDB server, by MySQL's protocol.
    Mysql,
    /// A SQLite database: a file, or in memory.
    Sqlite,
    /// A Redis server, or a cluster of them.
    Redis,
    /// A NATS server.
    Nats,
    /// A RabbitMQ server.
    Rabbitmq,
}

impl Store {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Postgres,
        Self::Mysql,
        Self::Sqlite,
        Self::Redis,
        Self::Nats,
        Self::Rabbitmq,
    ];

    /// As reports write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Rabbitmq => "rabbitmq",
        }
    }
}

/// What one run of a suite says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The package, as cargo names it.
    pub package: String,
    /// The test binary's name: `it`, or the library's.
    pub target: String,
    /// The test, as libtest prints it.
    pub test: String,
    /// The file that opened the suite, from the workspace's root.
    pub file: String,
    /// The risks that it is about.
    pub letters: String,
    /// What it did.
    pub counts: Counts,
    /// One when it ended in a panic.
    pub violations: u64,
    /// How long it took.
    pub millis: u64,
    /// What repeats its choices, if it made any.
    pub seed: Option<u64>,
    /// The stores that it took.
    #[serde(default)]
    pub stores: BTreeSet<Store>,
}

/// A suite that runs. Dropped, it tells what it did; in a panic, that it found a violation.
#[derive(Debug)]
pub struct Tally {
    suite: Arc<Suite>,
    told: Option<PathBuf>,
}

#[derive(Debug)]
struct Suite {
    letters: &'static str,
    file: &'static str,
    test: String,
    start: Instant,
    operations: AtomicU64,
    faults: AtomicU64,
    drops: AtomicU64,
    kills: AtomicU64,
    caught: AtomicU64,
    seed: Mutex<Option<u64>>,
    stores: Mutex<BTreeSet<Store>>,
}

/// All that are open in this process: who counts on another thread than the test's has but these.
static OPEN: Mutex<Vec<Weak<Suite>>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: RefCell<Vec<Weak<Suite>>> = const { RefCell::new(Vec::new()) };
    /// What a test took before it opened its suite.
    static TAKEN: RefCell<BTreeSet<Store>> = const { RefCell::new(BTreeSet::new()) };
}

/// Opens a suite about the risks `letters`, separated by spaces: `"X5 OB1"`.
#[track_caller]
#[must_use = "it ends when it is dropped"]
pub fn suite(letters: &'static str) -> Tally {
    let told = env::var_os(TALLY_VARIABLE).filter(|it| !it.is_empty());
    open(letters, Location::caller().file(), told.map(PathBuf::from))
}

fn open(letters: &'static str, file: &'static str, told: Option<PathBuf>) -> Tally {
    let here = thread::current();
    // With one thread for all tests libtest runs them on its own, which has no test's name.
    let test = here.name().filter(|it| *it != "main").map(str::to_owned);
    let taken = TAKEN.take();
    let suite = Arc::new(Suite {
        letters,
        file,
        test: test
            .clone()
            .or_else(asked_for)
            .unwrap_or_else(|| file.to_owned()),
        start: Instant::now(),
        operations: AtomicU64::new(0),
        faults: AtomicU64::new(0),
        drops: AtomicU64::new(0),
        kills: AtomicU64::new(0),
        caught: AtomicU64::new(0),
        seed: Mutex::new(None),
        // On libtest's own thread it may have been another test that took them.
        stores: Mutex::new(if test.is_some() {
            taken
        } else {
            BTreeSet::new()
        }),
    });
    HERE.with_borrow_mut(|all| all.push(Arc::downgrade(&suite)));
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|it| it.strong_count() > 0);
    open.push(Arc::downgrade(&suite));
    drop(open);
    Tally { suite, told }
}

/// The one test that the command line asks for.
fn asked_for() -> Option<String> {
    let words: Vec<_> = env::args().skip(1).collect();
    let is_one = words.iter().any(|it| it == "--exact");
    let mut names = words.iter().filter(|it| !it.starts_with('-'));
    names.next().filter(|_| is_one).cloned()
}

/// The suite of this thread. A thread that is no test's has the only one that is open, if it is.
fn current() -> Option<Arc<Suite>> {
    let here = HERE.with_borrow(|all| all.iter().rev().find_map(Weak::upgrade));
    here.or_else(|| {
        let is_a_tests = |name: &str| !name.starts_with("tokio");
        if thread::current().name().is_some_and(is_a_tests) {
            return None;
        }
        let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = open.iter().filter_map(Weak::upgrade);
        open.next().filter(|_| open.next().is_none())
    })
}

/// One more thing was done and judged: for helpers that several suites share.
pub fn operation() {
    Counting::here().operation();
}

/// The suite runs on `store`: for what the kit does not start. Its own servers, and the databases
/// and names on them, are counted where a test takes them; a file of SQLite's is the test's.
pub fn uses(store: Store) {
    match current() {
        Some(suite) => {
            let mut stores = suite.stores.lock().unwrap_or_else(PoisonError::into_inner);
            stores.insert(store);
        }
        // The suite that this test opens next has it.
        None => TAKEN.with_borrow_mut(|taken| {
            taken.insert(store);
        }),
    }
}

/// A suite to which the kit counts what it does, wherever that happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counting(Weak<Suite>);

impl Counting {
    /// The one that is open here now, if one is.
    pub(crate) fn here() -> Self {
        Self(current().as_ref().map_or_else(Weak::new, Arc::downgrade))
    }

    pub(crate) fn operation(&self) {
        self.add(|suite| &suite.operations, 1);
    }

    pub(crate) fn fault(&self) {
        self.add(|suite| &suite.faults, 1);
    }

    pub(crate) fn drops(&self, number: u32) {
        self.add(|suite| &suite.drops, number.into());
    }

    pub(crate) fn kill(&self) {
        self.add(|suite| &suite.kills, 1);
    }

    pub(crate) fn seed(&self, seed: u64) {
        if let Some(suite) = self.0.upgrade() {
            let mut kept = suite.seed.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get_or_insert(seed);
        }
    }

    fn add(&self, which: impl Fn(&Suite) -> &AtomicU64, number: u64) {
        if let Some(suite) = self.0.upgrade() {
            which(&suite).fetch_add(number, Ordering::Relaxed);
        }
    }
}

impl Tally {
    /// So many things were done and judged.
    pub fn operations(&self, number: impl TryInto<u64>) {
        add(&self.suite.operations, number);
    }

    /// So many faults were injected, beside those of plans and sweeps.
    pub fn faults(&self, number: impl TryInto<u64>) {
        add(&self.suite.faults, number);
    }

    /// So many futures were dropped, beside those of cancel sweeps.
    pub fn drops(&self, number: impl TryInto<u64>) {
        add(&self.suite.drops, number);
    }

    /// So many processes were killed or stopped, beside those that the kit did.
    pub fn kills(&self, number: impl TryInto<u64>) {
        add(&self.suite.kills, number);
    }

    /// So many planted bugs were found. Said after the assertion that they were.
    pub fn caught(&self, number: impl TryInto<u64>) {
        add(&self.suite.caught, number);
    }

    fn line(&self) -> Line {
        let suite = &self.suite;
        let counts = Counts {
            operations: suite.operations.load(Ordering::Relaxed),
            faults: suite.faults.load(Ordering::Relaxed),
            drops: suite.drops.load(Ordering::Relaxed),
            kills: suite.kills.load(Ordering::Relaxed),
            caught: suite.caught.load(Ordering::Relaxed),
        };
        let seed = suite.seed.lock().unwrap_or_else(PoisonError::into_inner);
        let stores = suite.stores.lock().unwrap_or_else(PoisonError::into_inner);
        Line {
            package: env::var("CARGO_PKG_NAME").unwrap_or_default(),
            target: target(),
            test: suite.test.clone(),
            file: suite.file.to_owned(),
            letters: suite.letters.to_owned(),
            counts,
            violations: thread::panicking().into(),
            millis: suite.start.elapsed().as_millis().try_into().unwrap_or(0),
            seed: *seed,
            stores: stores.clone(),
        }
    }
}

fn add<N: TryInto<u64>>(to: &AtomicU64, number: N) {
    match number.try_into() {
        Ok(number) => to.fetch_add(number, Ordering::Relaxed),
        Err(_) => panic!("a count is no negative {}", type_name::<N>()),
    };
}

/// This program's name without what cargo adds to it.
fn target() -> String {
    let program = env::current_exe().unwrap_or_default();
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    let without_hash = name.rsplit_once('-').map(|(name, _)| name.to_owned());
    without_hash.unwrap_or_else(|| name.into_owned())
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(path) = &self.told {
            // Who asked misses the line, and says so; a test does not fail for it.
            let _ = append(path, &self.line());
        }
    }
}

/// In one write, so that lines of several processes do not mix.
fn append(path: &Path, line: &Line) -> std::io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "crates/testkit/src/tally.rs";

    #[test]
    fn a_suite_counts_what_is_done_on_its_thread_and_what_it_is_told() {
        let tally = open("X2", HERE, None);
        Counting::here().fault();
        let there = Counting::here();
        thread::spawn(move || there.kill()).join().unwrap();
        {
            let inner = open("X1", HERE, None);
            Counting::here().drops(3);
            assert_eq!(inner.line().counts.drops, 3);
        }
        operation();
        tally.operations(4_usize);
        tally.caught(1);
        let line = tally.line();
        let counts = line.counts;
        assert_eq!((counts.faults, counts.kills, counts.drops), (1, 1, 0));
        assert_eq!((counts.operations, counts.caught), (5, 1));
        assert_eq!((&*line.file, &*line.letters), (HERE, "X2"));
        assert!(line.test.ends_with("and_what_it_is_told"), "{}", line.test);
        assert_eq!(line.target, "buttress_testkit");
    }

    #[test]
    fn a_suite_knows_the_stores_that_its_test_took_and_has_those_of_nobody_else() {
        uses(Store::Postgres);
        let tally = open("X2", HERE, None);
        uses(Store::Sqlite);
        uses(Store::Sqlite);
        // Asked for and not there, it is used as little as one that nobody asked for.
        let is_there = crate::redis::fresh_prefix().is_some();
        let elsewhere = thread::Builder::new().name("another::test".to_owned());
        let elsewhere = elsewhere.spawn(|| uses(Store::Nats)).unwrap();
        elsewhere.join().unwrap();
        let mut expected = BTreeSet::from([Store::Postgres, Store::Sqlite]);
        expected.extend(is_there.then_some(Store::Redis));
        assert_eq!(tally.line().stores, expected);
        let written = serde_json::to_value(Store::ALL).unwrap();
        assert_eq!(written, serde_json::json!(Store::ALL.map(Store::name)));
    }

    #[test]
    fn each_end_is_a_line_and_one_in_a_panic_is_a_violation() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("lines");
        let told = Some(path.clone());
        let panicked = thread::spawn(move || {
            let _tally = open("X5", HERE, told);
            panic!("planted");
        });
        panicked.join().unwrap_err();
        drop(open("X4", HERE, Some(path.clone())));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(serde_json::from_str);
        let lines: Vec<Line> = lines.map(Result::unwrap).collect();
        let violations: Vec<_> = lines.iter().map(|it| it.violations).collect();
        assert_eq!(violations, [1, 0]);
    }

    #[test]
    fn who_is_on_a_tests_thread_without_a_suite_counts_for_nobody() {
        let tally = open("X1", HERE, None);
        let elsewhere = thread::Builder::new().name("another::test".to_owned());
        let elsewhere = elsewhere.spawn(|| Counting::here().fault()).unwrap();
        elsewhere.join().unwrap();
        assert_eq!(tally.line().counts, Counts::default());
    }
}
