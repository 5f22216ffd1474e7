//! What a reading of each clock costs, beside the bare sources; and an event that nobody hears.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the bare sources are the limit to compare with"
)]

use std::{hint::black_box, time::Duration};

use buttress_core::{Clock, Observers};
use criterion::{Criterion, criterion_group, criterion_main};

fn clocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock");
    group.bench_function("bare std", |b| {
        b.iter(|| black_box(std::time::Instant::now()));
    });
    group.bench_function("bare tokio", |b| {
        b.iter(|| black_box(tokio::time::Instant::now()));
    });
    let quanta = quanta::Clock::new();
    group.bench_function("bare quanta", |b| b.iter(|| black_box(quanta.raw())));
    let ticked = Clock::ticked(Duration::from_millis(1)).expect("a thread for the clock");
    let (manual, _hand) = Clock::manual();
    for (name, clock) in [
        ("tokio", Clock::tokio()),
        ("quanta", Clock::quanta()),
        ("ticked", ticked),
        ("manual", manual),
    ] {
        group.bench_function(name, |b| b.iter(|| black_box(black_box(&clock).now())));
    }
    group.finish();
}

fn observers(c: &mut Criterion) {
    let mut group = c.benchmark_group("observers");
    let silent = Observers::<u64>::none();
    group.bench_function("nobody hears", |b| {
        b.iter(|| black_box(&silent).tell(|| black_box(7)));
    });
    let heard = Observers::none().with(|event: &u64| {
        black_box(*event);
    });
    group.bench_function("one hears", |b| {
        b.iter(|| black_box(&heard).tell(|| black_box(7)));
    });
    group.finish();
}

criterion_group!(benches, clocks, observers);
criterion_main!(benches);
