//! No load that began before a write or an invalidation is seen by a caller who came after it, in whatever order
//! all are polled: random schedules against a source that only grows, and caches with planted bugs.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_cache_aside::{Cache, CachePolicy, EarlyRefresh, Loaded};
use buttress_testkit::{seed::Seed, tier::short_or_long};
use futures_util::{FutureExt as _, future::Shared};
use rand::{RngExt as _, rngs::StdRng};

type Steps<T> = Pin<Box<dyn Future<Output = T>>>;

/// More polls than any schedule needs: more is a caller who hangs.
const POLLS: usize = 20_000;

/// The source: one number, which only grows.
#[derive(Clone, Default)]
struct Source(Arc<AtomicU32>);

/// How long a load takes, in polls, before and after it reads the source.
#[derive(Clone, Copy)]
struct Pace(u32, u32);

impl Source {
    async fn read(self, pace: Pace) -> u32 {
        pauses(pace.0).await;
        let value = self.0.load(SeqCst);
        pauses(pace.1).await;
        value
    }

    fn write(&self) -> u32 {
        self.0.fetch_add(1, SeqCst) + 1
    }
}

async fn pauses(count: u32) {
    for _ in 0..count {
        let mut is_over = false;
        std::future::poll_fn(|_| {
            let over = std::mem::replace(&mut is_over, true);
            if over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// How a write is made known.
#[derive(Clone, Copy, Debug)]
enum How {
    Invalidate,
    Expire,
    Tag,
    Clear,
    WriteThrough,
}

const HOWS: [How; 5] = [
    How::Invalidate,
    How::Expire,
    How::Tag,
    How::Clear,
    How::WriteThrough,
];

/// What is judged.
trait Subject {
    fn read(&self, key: u32, source: Source, pace: Pace) -> Steps<u32>;
    /// Writes the source, and makes it known. Gives what was written.
    fn write(&self, key: u32, source: Source, how: How, pace: Pace) -> Steps<u32>;
}

impl Subject for Cache<u32> {
    fn read(&self, key: u32, source: Source, pace: Pace) -> Steps<u32> {
        let cache = self.clone();
        Box::pin(async move {
            let loader = move || async move {
                let value = source.read(pace).await;
                let tag = format!("tag {key}");
                Ok::<_, Infallible>(Loaded::new(value).tags([tag]))
            };
            cache.get_or_load(key.to_be_bytes(), loader).await.unwrap()
        })
    }

    fn write(&self, key: u32, source: Source, how: How, pace: Pace) -> Steps<u32> {
        let (cache, key_bytes) = (self.clone(), key.to_be_bytes());
        Box::pin(async move {
            if matches!(how, How::WriteThrough) {
                let write = || async move {
                    pauses(pace.0).await;
                    let value = source.write();
                    pauses(pace.1).await;
                    Ok::<_, Infallible>(Loaded::new(value).tags([format!("tag {key}")]))
                };
                let written = cache.write_through(key_bytes, write).await.unwrap();
                return written.unwrap();
            }
            let value = source.write();
            pauses(pace.0).await;
            match how {
                How::Invalidate | How::WriteThrough => cache.invalidate(key_bytes).await,
                How::Expire => cache.expire(key_bytes).await,
                How::Tag => cache.invalidate_tag(format!("tag {key}")).await,
                How::Clear => cache.clear().await,
            }
            value
        })
    }
}

/// The bugs that caches were found with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    /// A load stores what it brings, whatever came in between.
    StoresOutdated,
    /// Who comes after an invalidation joins a load of before it.
    JoinsOutdated,
}

/// A cache as it is often written.
#[derive(Clone)]
struct Planted {
    bug: Bug,
    values: Rc<RefCell<HashMap<u32, u32>>>,
    flights: Rc<RefCell<HashMap<u32, Shared<Steps<u32>>>>>,
    version: Rc<Cell<u32>>,
}

impl Planted {
    fn new(bug: Bug) -> Self {
        Self {
            bug,
            values: Rc::default(),
            flights: Rc::default(),
            version: Rc::default(),
        }
    }

    async fn load(self, key: u32, source: Source, pace: Pace) -> u32 {
        let begun = self.version.get();
        let value = source.read(pace).await;
        if self.bug == Bug::StoresOutdated || self.version.get() == begun {
            self.values.borrow_mut().insert(key, value);
        }
        self.flights.borrow_mut().remove(&key);
        value
    }
}

impl Subject for Planted {
    fn read(&self, key: u32, source: Source, pace: Pace) -> Steps<u32> {
        let this = self.clone();
        Box::pin(async move {
            if let Some(value) = this.values.borrow().get(&key) {
                return *value;
            }
            let flight = {
                let mut flights = this.flights.borrow_mut();
                let load: Steps<u32> = Box::pin(this.clone().load(key, source, pace));
                flights.entry(key).or_insert_with(|| load.shared()).clone()
            };
            flight.await
        })
    }

    fn write(&self, key: u32, source: Source, _: How, pace: Pace) -> Steps<u32> {
        let this = self.clone();
        Box::pin(async move {
            let value = source.write();
            pauses(pace.0).await;
            this.version.set(this.version.get() + 1);
            this.values.borrow_mut().remove(&key);
            if this.bug == Bug::StoresOutdated {
                this.flights.borrow_mut().remove(&key);
            }
            value
        })
    }
}

/// One schedule: some readers and writers of one key, polled in any order, some dropped on the way.
fn schedule(subject: &impl Subject, key: u32, rng: &mut StdRng) -> Result<(), String> {
    let source = Source::default();
    // What certainly was made known: who begins to read now must not get less.
    let floor = Rc::new(Cell::new(0));
    let wrong = Rc::new(RefCell::new(None));
    let mut tasks: Vec<(bool, Option<Steps<()>>)> = Vec::new();
    for _ in 0..rng.random_range(2..=5) {
        let (floor, wrong) = (Rc::clone(&floor), Rc::clone(&wrong));
        let pace = Pace(rng.random_range(0..4), rng.random_range(0..4));
        let (wait, read) = (
            rng.random_range(0..8),
            subject.read(key, source.clone(), pace),
        );
        let reader = async move {
            pauses(wait).await;
            let least = floor.get();
            let value = read.await;
            if value < least {
                *wrong.borrow_mut() = Some(format!("read {value} after {least} was made known"));
            }
        };
        tasks.push((true, Some(Box::pin(reader))));
    }
    for _ in 0..rng.random_range(1..=3) {
        let floor = Rc::clone(&floor);
        let how = HOWS[rng.random_range(0..HOWS.len())];
        let pace = Pace(rng.random_range(0..3), rng.random_range(0..3));
        let wait = rng.random_range(0..8);
        let write = subject.write(key, source.clone(), how, pace);
        let writer = async move {
            pauses(wait).await;
            let written = write.await;
            floor.set(floor.get().max(written));
        };
        tasks.push((false, Some(Box::pin(writer))));
    }
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS {
        tasks.retain(|(_, steps)| steps.is_some());
        if tasks.is_empty() {
            let last = subject.read(key, source, Pace(0, 0));
            let last = last.now_or_never().ok_or("the last reader hangs")?;
            if last < floor.get() {
                return Err(format!("{last} stays after {}", floor.get()));
            }
            return wrong.take().map_or(Ok(()), Err);
        }
        let at = rng.random_range(0..tasks.len());
        let (may_be_dropped, steps) = &mut tasks[at];
        let is_dropped = *may_be_dropped && rng.random_range(0..60) == 0;
        let is_over = steps
            .as_mut()
            .is_none_or(|steps| steps.as_mut().poll(&mut context).is_ready());
        if is_over || is_dropped {
            *steps = None;
        }
    }
    Err("somebody hangs".into())
}

/// The first schedule that shows a fault.
fn first_fault(subject: &impl Subject, schedules: u32, seed: &Seed) -> Option<(u32, String)> {
    let mut rng = seed.rng();
    (0..schedules).find_map(|key| Some((key, schedule(subject, key, &mut rng).err()?)))
}

#[test]
fn ca1_refill_race_no_caller_sees_a_load_that_began_before_an_invalidation_he_came_after() {
    let tally = buttress_testkit::tally::suite("CA1");
    let seed = Seed::new();
    let policy = CachePolicy::builder()
        .no_hard_timeout()
        .stale_if_error(Duration::from_secs(3600))
        .build();
    let cache = Cache::new("refill", policy.unwrap());
    let schedules = short_or_long(100_000, 5_000_000);
    let fault = first_fault(&cache, schedules, &seed);
    assert_eq!(fault, None);
    tally.operations(schedules);
}

#[test]
fn the_planted_bugs_of_other_caches_are_found_by_the_same_schedules() {
    let tally = buttress_testkit::tally::suite("CA1");
    for bug in [Bug::StoresOutdated, Bug::JoinsOutdated] {
        let fault = first_fault(&Planted::new(bug), 2_000, &Seed::new());
        assert!(fault.is_some(), "{bug:?} was not found");
    }
    tally.caught(2);
}

/// The same on threads: who begins to read after a write was made known gets no older one. Refreshes behind the
/// readers' backs are on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ca1_refill_race_on_threads() {
    let tally = buttress_testkit::tally::suite("CA1");
    let policy = CachePolicy::builder()
        .ttl(Duration::from_millis(2))
        .stale_while_revalidate(Duration::from_secs(60))
        .early_refresh(EarlyRefresh::at(0.5))
        .build();
    let cache = Cache::<u32>::new("threads", policy.unwrap());
    let (source, floor) = (Source::default(), Arc::new(AtomicU32::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (cache, source) = (cache.clone(), source.clone());
            let (floor, over) = (Arc::clone(&floor), Arc::clone(&over));
            tokio::spawn(async move {
                let mut reads = 0_u64;
                while !over.load(SeqCst) {
                    let least = floor.load(SeqCst);
                    let source = source.clone();
                    let loader = move || async move {
                        let value = source.0.load(SeqCst);
                        tokio::task::yield_now().await;
                        Ok::<_, Infallible>(Loaded::new(value).tags(["t"]))
                    };
                    let value = cache.get_or_load("key", loader).await.unwrap();
                    assert!(value >= least, "{value} after {least}");
                    reads += 1;
                    if reads.is_multiple_of(64) {
                        tokio::task::yield_now().await;
                    }
                }
                reads
            })
        })
        .collect();
    for round in 0..short_or_long(3_000, 300_000) {
        let how = HOWS[round % HOWS.len()];
        let written = match how {
            How::WriteThrough => {
                let source = source.clone();
                let write =
                    || async move { Ok::<_, Infallible>(Loaded::new(source.write()).tags(["t"])) };
                cache.write_through("key", write).await.unwrap().unwrap()
            }
            _ => source.write(),
        };
        match how {
            How::Invalidate => cache.invalidate("key").await,
            How::Expire => cache.expire("key").await,
            How::Tag => cache.invalidate_tag("t").await,
            How::Clear => cache.clear().await,
            How::WriteThrough => {}
        }
        floor.fetch_max(written, SeqCst);
        tokio::task::yield_now().await;
    }
    over.store(true, SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    tally.operations(short_or_long(3_000, 300_000));
}
