//! What gathering saves, and what it costs: a thousand single loads by a `Batcher`, by the dataloader crate and one by one;
//! a hundred thousand writes behind, through and into the cache alone.
//!
//! The source has ten connections, and each statement takes a millisecond on one of them, however many rows it is for.
//! Contenders in turns, so that a busy machine disturbs all of them alike; the medians.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "times are taken by hand; what cannot be set up cannot be measured; figures are printed"
)]

use std::{
    collections::HashMap,
    convert::Infallible,
    hint::black_box,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use buttress_cache_aside::{
    BatchPolicy, Batcher, Cache, CachePolicy, Write, WriteBehind, WriteBehindPolicy,
};
use dataloader::{BatchFn, non_cached::Loader};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

const LOADS: u64 = 1_000;
const PUTS: u64 = 100_000;
const MILLISECOND: Duration = Duration::from_millis(1);

/// A source, or one that takes no time.
#[derive(Clone)]
struct Source {
    connections: Option<Arc<Semaphore>>,
    statements: Arc<AtomicU64>,
    rows: Arc<AtomicU64>,
}

impl Source {
    fn new(takes_time: bool) -> Self {
        Self {
            connections: takes_time.then(|| Arc::new(Semaphore::new(10))),
            statements: Arc::default(),
            rows: Arc::default(),
        }
    }

    async fn statement(&self, rows: usize) {
        self.statements.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
        if let Some(connections) = &self.connections {
            let _connection = connections.acquire().await.unwrap();
            tokio::time::sleep(MILLISECOND).await;
        }
    }

    fn taken(&self) -> (u64, u64) {
        (self.statements.swap(0, Relaxed), self.rows.swap(0, Relaxed))
    }
}

impl BatchFn<u64, u64> for Source {
    async fn load(&mut self, keys: &[u64]) -> HashMap<u64, u64> {
        self.statement(keys.len()).await;
        keys.iter().map(|key| (*key, *key)).collect()
    }
}

type Round<'r> = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + 'r>> + 'r>;

/// All of them in turns: what each takes, and what the source has to do for it.
async fn table(
    what: &str,
    source: &Source,
    each: u64,
    rounds: usize,
    contenders: &[(&str, Round<'_>)],
) {
    let mut samples = vec![Vec::new(); contenders.len()];
    let mut taken = vec![(0, 0); contenders.len()];
    for _ in 0..rounds {
        for (at, (_, round)) in contenders.iter().enumerate() {
            source.taken();
            let begun = Instant::now();
            round().await;
            samples[at].push(begun.elapsed());
            taken[at] = source.taken();
        }
    }
    println!("\n{what}");
    for (at, (who, _)) in contenders.iter().enumerate() {
        samples[at].sort();
        let median = samples[at][rounds / 2];
        let (statements, rows) = taken[at];
        println!(
            "  {who:<44} {:>9.2} ms  {:>8.0} ns each  {statements:>6} statements, {rows:>6} rows",
            median.as_secs_f64() * 1e3,
            median.as_nanos() as f64 / each as f64,
        );
    }
}

fn batcher(source: &Source, window: Duration) -> Batcher<u64, u64> {
    let source = source.clone();
    let loader = move |keys: Vec<u64>| {
        let source = source.clone();
        async move {
            source.statement(keys.len()).await;
            Ok::<_, Infallible>(keys.into_iter().map(|key| (key, key)))
        }
    };
    let policy = BatchPolicy {
        window,
        ..BatchPolicy::default()
    };
    Batcher::new(policy, loader).unwrap()
}

/// By tasks of their own, as the requests of a server are; or all of them by one task.
async fn loads<F>(in_tasks: bool, load: impl Fn(u64) -> F)
where
    F: Future<Output = u64> + Send + 'static,
{
    if in_tasks {
        let tasks: Vec<_> = (0..LOADS).map(|key| tokio::spawn(load(key))).collect();
        black_box(join_all(tasks).await);
    } else {
        black_box(join_all((0..LOADS).map(load)).await);
    }
}

async fn gathered(in_tasks: bool, takes_time: bool) {
    let source = Source::new(takes_time);
    let by_window = batcher(&source, MILLISECOND);
    let at_once = batcher(&source, Duration::ZERO);
    let peer = Loader::new(source.clone()).with_max_batch_size(100);
    let ours = |batcher: &Batcher<u64, u64>, key| {
        let batcher = batcher.clone();
        async move { batcher.load(key).await.unwrap().unwrap() }
    };
    let contenders: Vec<(&str, Round<'_>)> = vec![
        (
            "one by one",
            Box::new(|| {
                Box::pin(loads(in_tasks, |key| {
                    let source = source.clone();
                    async move {
                        source.statement(1).await;
                        key
                    }
                }))
            }),
        ),
        (
            "ours, a window of 1 ms",
            Box::new(|| Box::pin(loads(in_tasks, |key| ours(&by_window, key)))),
        ),
        (
            "ours, a window of zero",
            Box::new(|| Box::pin(loads(in_tasks, |key| ours(&at_once, key)))),
        ),
        (
            "dataloader 0.18, non-cached, 10 yields",
            Box::new(|| {
                Box::pin(loads(in_tasks, |key| {
                    let peer = peer.clone();
                    async move { peer.try_load(key).await.unwrap_or_default() }
                }))
            }),
        ),
    ];
    let by = if in_tasks {
        "a thousand tasks"
    } else {
        "one task"
    };
    let takes = if takes_time {
        "each statement takes 1 ms"
    } else {
        "the source takes no time"
    };
    let what = format!("1,000 loads by {by}, {takes}, 100 keys a statement");
    table(&what, &source, LOADS, 31, &contenders).await;
}

fn cache() -> Cache<u64> {
    Cache::new("bench", CachePolicy::default())
}

/// Which key a put is for: a few hot ones take most of them, or all are alike.
fn key(at: u64, keys: u64, skewed: bool) -> u64 {
    let random = at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    if skewed && random % 10 < 8 {
        return random / 10 % (keys / 50).max(1);
    }
    random / 10 % keys
}

/// Four callers who put one after another.
async fn puts<F>(count: u64, put: impl Fn(u64) -> F + Clone + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send,
{
    let callers = (0..4).map(|caller| {
        let put = put.clone();
        tokio::spawn(async move {
            for at in 0..count / 4 {
                put(at * 4 + caller).await;
            }
        })
    });
    join_all(callers).await;
}

async fn behind(keys: u64, skewed: bool) {
    let source = Source::new(true);
    let name = move |at: u64| key(at, keys, skewed).to_be_bytes();
    let what = format!(
        "{PUTS} puts of {keys} keys by 4 callers{}; behind until all is written",
        if skewed {
            ", 80% of them of a fiftieth"
        } else {
            ""
        }
    );
    let contenders: Vec<(&str, Round<'_>)> = vec![
        (
            "into the cache alone",
            Box::new(|| {
                Box::pin(async {
                    let cache = cache();
                    puts(PUTS, move |at| {
                        let cache = cache.clone();
                        async move { cache.put(name(at), at).await }
                    })
                    .await;
                })
            }),
        ),
        (
            "behind, a delay of 100 ms",
            Box::new(|| {
                Box::pin(async {
                    let policy = WriteBehindPolicy {
                        delay: 100 * MILLISECOND,
                        ..WriteBehindPolicy::default()
                    };
                    let sink = source.clone();
                    let sink = move |writes: Vec<Write<u64>>| {
                        let source = sink.clone();
                        async move {
                            source.statement(writes.len()).await;
                            Ok::<_, Infallible>(())
                        }
                    };
                    let behind = WriteBehind::start(&cache(), policy, sink).unwrap();
                    let puts_to = behind.clone();
                    let begun = Instant::now();
                    puts(PUTS, move |at| {
                        let behind = puts_to.clone();
                        async move { behind.put(name(at), at).await.unwrap() }
                    })
                    .await;
                    ANSWERED.store(begun.elapsed().as_micros() as u64, Relaxed);
                    behind.flush().await;
                })
            }),
        ),
    ];
    table(&what, &source, PUTS, 7, &contenders).await;
    let micros = ANSWERED.load(Relaxed) as f64;
    println!(
        "  all puts behind were answered after {:>19.2} ms: {:.0} puts/s",
        micros / 1e3,
        PUTS as f64 / micros * 1e6
    );
    // Each waits for a statement of its own: a hundredth of them shows it.
    let count = PUTS / 100;
    let begun = Instant::now();
    let (through, writes) = (cache(), source.clone());
    puts(count, move |at| {
        let (cache, source) = (through.clone(), writes.clone());
        async move {
            let write = || async move {
                source.statement(1).await;
                Ok::<_, Infallible>(at)
            };
            cache.write_through(name(at), write).await.unwrap();
        }
    })
    .await;
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("  through, by the same 4 callers: {rate:.0} puts/s");
}

/// After how many microseconds the last of the puts behind was answered.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

fn main() {
    // `cargo test --benches` and `cargo bench -- --list` want no figures.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        for takes_time in [true, false] {
            for in_tasks in [true, false] {
                gathered(in_tasks, takes_time).await;
            }
        }
        behind(1_000, false).await;
        behind(1_000, true).await;
        behind(50_000, false).await;
    });
}
