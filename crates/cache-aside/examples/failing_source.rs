//! A source that fails for a while, and callers who do not notice: `cargo run -p buttress-cache-aside --example
//! failing_source`.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_cache_aside::{Cache, CachePolicy, Loaded};

/// A source that counts its reads, and can be switched off.
#[derive(Clone, Default)]
struct Source {
    is_down: Arc<AtomicBool>,
    reads: Arc<AtomicU32>,
}

impl Source {
    async fn read(self) -> io::Result<Loaded<u32>> {
        let version = self.reads.fetch_add(1, SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.is_down.load(SeqCst) {
            return Err(io::Error::other("the source is down"));
        }
        Ok(Loaded::new(version).tags(["prices"]))
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = CachePolicy::builder()
        .ttl(Duration::from_millis(100))
        .stale_if_error(Duration::from_secs(60))
        .throttle(Duration::from_millis(200))
        .build()?;
    let cache = Cache::<u32>::new("prices", policy);
    let source = Source::default();
    let ask = || {
        let source = source.clone();
        cache.serve_or_load("product:7", |_| source.read())
    };

    let many = futures_util::future::join_all((0..1_000).map(|_| ask())).await;
    println!(
        "{} callers, {} reads",
        many.len(),
        source.reads.load(SeqCst)
    );

    source.is_down.store(true, SeqCst);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let served = ask().await?;
        println!(
            "down:   {:?}, stale for {:?}, {} reads",
            served.outcome(),
            served.stale_for(),
            source.reads.load(SeqCst),
        );
    }

    source.is_down.store(false, SeqCst);
    cache.invalidate_tag("prices").await;
    let served = ask().await?;
    println!("again:  {:?}, {:?}", served.outcome(), served.value());
    Ok(())
}
