//! What happens, counted through the `metrics` facade.

use buttress_core::Observer;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

use crate::{Event, EventKind, Kept, LoadFailure};

/// An observer that counts what happens, for whatever recorder is installed:
///
/// | metric | labels |
/// | --- | --- |
/// | `buttress_cache_aside_hits_total` | `name`, `stale`, `negative` |
/// | `buttress_cache_aside_misses_total` | `name`, `collapsed` |
/// | `buttress_cache_aside_stale_served_total` | `name`, `why`: `slow` or `failed` |
/// | `buttress_cache_aside_refreshes_total` | `name`, `early` |
/// | `buttress_cache_aside_loads_total` | `name`, `outcome`: `kept`, `not_to_keep`, `too_large`, `outdated`, `error`, `panic`, `timeout` |
/// | `buttress_cache_aside_load_seconds`, a histogram | `name` |
/// | `buttress_cache_aside_puts_total` | `name` |
/// | `buttress_cache_aside_invalidations_total` | `name`, `what`: `key`, `tag`, `all` |
/// | `buttress_cache_aside_evictions_total` | `name` |
/// | `buttress_cache_aside_second_level_total` | `name`, `what`: `hit`, `failed`, `recovered`, `unreadable`, `not_shared`, `owed`, `news_lost`, `waited`, `waited_in_vain` |
/// | `buttress_cache_aside_written_behind_total`, in keys | `name`, `outcome`: `written`, `failed`, `given_up` |
/// | `buttress_cache_aside_write_behind_seconds`, a histogram | `name` |
///
/// Keys and tags are no labels: they are the callers' data. What is true now (entries, weight, flights, tags)
/// is read from the `Registry`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct MetricsObserver {}

impl MetricsObserver {
    /// One; there is nothing to choose.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }

    /// Tells the recorder what each figure is, in a sentence: for Prometheus' `HELP`, say. Once, when
    /// the recorder is installed; without one nothing happens.
    pub fn describe() {
        for (name, what) in COUNTERS {
            describe_counter!(*name, *what);
        }
        describe_histogram!(
            "buttress_cache_aside_load_seconds",
            Unit::Seconds,
            "How long loads took."
        );
        describe_histogram!(
            "buttress_cache_aside_write_behind_seconds",
            Unit::Seconds,
            "How long a batch of writes took."
        );
        for (name, what) in GAUGES {
            describe_gauge!(*name, *what);
        }
    }
}

/// Counters, and what they count.
const COUNTERS: &[(&str, &str)] = &[
    ("buttress_cache_aside_hits_total", "Values that were there."),
    (
        "buttress_cache_aside_misses_total",
        "Values that were not there, by whether another was loading them.",
    ),
    (
        "buttress_cache_aside_stale_served_total",
        "Values that were served stale, because their load was slow or failed.",
    ),
    (
        "buttress_cache_aside_refreshes_total",
        "Loads of values that were still served.",
    ),
    (
        "buttress_cache_aside_loads_total",
        "Loads that ended, by their outcome.",
    ),
    ("buttress_cache_aside_puts_total", "Values that were put."),
    (
        "buttress_cache_aside_invalidations_total",
        "Invalidations, by what was invalidated.",
    ),
    (
        "buttress_cache_aside_evictions_total",
        "Values that went for want of space.",
    ),
    (
        "buttress_cache_aside_second_level_total",
        "What the second level did or failed to do.",
    ),
    (
        "buttress_cache_aside_written_behind_total",
        "Keys whose writes were behind, by the outcome.",
    ),
];

/// Gauges, which are told from what is true now.
const GAUGES: &[(&str, &str)] = &[
    ("buttress_cache_aside_entries", "Values in this process."),
    ("buttress_cache_aside_weight", "What these values weigh."),
    ("buttress_cache_aside_flights", "Loads under way."),
    ("buttress_cache_aside_tags", "Tags that are known."),
    (
        "buttress_cache_aside_owed",
        "Changes that the second level has not heard of.",
    ),
    (
        "buttress_cache_aside_unwritten",
        "Writes that wait for the source.",
    ),
];

impl Observer<Event> for MetricsObserver {
    fn on_event(&self, event: &Event) {
        let name = event.name.clone();
        match event.kind {
            EventKind::Hit { stale, negative } => {
                let (stale, negative) = (word(stale), word(negative));
                counter!("buttress_cache_aside_hits_total",
                    "name" => name, "stale" => stale, "negative" => negative)
                .increment(1);
            }
            EventKind::Miss { collapsed } => {
                counter!("buttress_cache_aside_misses_total",
                    "name" => name, "collapsed" => word(collapsed))
                .increment(1);
            }
            EventKind::StaleServed { slow } => {
                let why = if slow { "slow" } else { "failed" };
                counter!("buttress_cache_aside_stale_served_total", "name" => name, "why" => why)
                    .increment(1);
            }
            EventKind::RefreshBegun { early } => {
                counter!("buttress_cache_aside_refreshes_total",
                    "name" => name, "early" => word(early))
                .increment(1);
            }
            EventKind::Loaded { took, kept } => {
                histogram!("buttress_cache_aside_load_seconds", "name" => name.clone())
                    .record(took.as_secs_f64());
                let outcome = match kept {
                    Kept::Kept => "kept",
                    Kept::NotToKeep => "not_to_keep",
                    Kept::TooLarge => "too_large",
                    Kept::Outdated => "outdated",
                };
                counter!("buttress_cache_aside_loads_total",
                    "name" => name, "outcome" => outcome)
                .increment(1);
            }
            EventKind::LoadFailed { took, why } => {
                histogram!("buttress_cache_aside_load_seconds", "name" => name.clone())
                    .record(took.as_secs_f64());
                let outcome = match why {
                    LoadFailure::Error => "error",
                    LoadFailure::Panic => "panic",
                    LoadFailure::Timeout => "timeout",
                };
                counter!("buttress_cache_aside_loads_total",
                    "name" => name, "outcome" => outcome)
                .increment(1);
            }
            EventKind::Put => {
                counter!("buttress_cache_aside_puts_total", "name" => name).increment(1);
            }
            EventKind::Invalidated => invalidated(name, "key"),
            EventKind::TagInvalidated => invalidated(name, "tag"),
            EventKind::Cleared => invalidated(name, "all"),
            EventKind::SecondLevelHit => second(name, "hit"),
            EventKind::SecondLevelFailed { .. } => second(name, "failed"),
            EventKind::SecondLevelRecovered => second(name, "recovered"),
            EventKind::Unreadable { .. } => second(name, "unreadable"),
            EventKind::NotShared => second(name, "not_shared"),
            EventKind::Owed { .. } => second(name, "owed"),
            EventKind::NewsLost { .. } => second(name, "news_lost"),
            EventKind::WrittenBehind { keys, took } => behind(name, keys, Some(took), "written"),
            EventKind::WriteBehindFailed { keys, took } => {
                behind(name, keys, Some(took), "failed");
            }
            EventKind::WriteGivenUp { keys } => behind(name, keys, None, "given_up"),
            EventKind::WaitedForAnother { came, .. } => {
                second(name, if came { "waited" } else { "waited_in_vain" });
            }
            EventKind::Evicted { entries } => {
                counter!("buttress_cache_aside_evictions_total", "name" => name).increment(entries);
            }
        }
    }
}

fn second(name: std::borrow::Cow<'static, str>, what: &'static str) {
    counter!("buttress_cache_aside_second_level_total", "name" => name, "what" => what)
        .increment(1);
}

fn invalidated(name: std::borrow::Cow<'static, str>, what: &'static str) {
    counter!("buttress_cache_aside_invalidations_total", "name" => name, "what" => what)
        .increment(1);
}

fn behind(
    name: std::borrow::Cow<'static, str>,
    keys: usize,
    took: Option<std::time::Duration>,
    outcome: &'static str,
) {
    if let Some(took) = took {
        histogram!("buttress_cache_aside_write_behind_seconds", "name" => name.clone())
            .record(took.as_secs_f64());
    }
    counter!("buttress_cache_aside_written_behind_total", "name" => name, "outcome" => outcome)
        .increment(u64::try_from(keys).unwrap_or(u64::MAX));
}

const fn word(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}
