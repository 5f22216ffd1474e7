//! Monotonic time that a test can drive.
//!
//! Every in-process rule of the family is told the time by a [`Clock`]; none reads one by itself.
//! Stores that several hosts share do not use this clock at all: they use their server's.

#[cfg(all(feature = "coarse", target_os = "linux"))]
mod coarse;

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A point in time: nanoseconds since its [`Clock`]'s own start.
///
/// Arithmetic saturates, so no duration, however hostile, can make it panic.
/// Moments of two different clocks must not be compared; nothing can check that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The start of a clock.
    pub const START: Self = Self(0);

    /// The moment that lies `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `duration` later, or the last one that can be told (584 years after the start).
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[inline]
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A source of monotonic time, cheap to clone; clones share one start.
///
/// | made by | a reading costs about | stands still under `tokio::time::pause` | for |
/// | --- | --- | --- | --- |
/// | [`Clock::tokio`] (default) | 26 ns | yes | everything, until a measurement says otherwise |
/// | [`Clock::quanta`] (feature) | 9 ns | no | hot paths that need exact time |
/// | [`Clock::coarse`] (feature) | 22 ns, its bounds 2 ns | no | hot paths that mostly need not know exactly |
/// | [`Clock::ticked`] | 2 ns | no | hot paths that can do with time a tick late |
/// | [`Clock::manual`] | a few ns | it stands still always | tests |
///
/// ```
/// use std::time::Duration;
/// use buttress_core::Clock;
///
/// let (clock, hand) = Clock::manual();
/// let before = clock.now();
/// hand.advance(Duration::from_secs(30));
/// assert_eq!(clock.now().saturating_since(before), Duration::from_secs(30));
/// ```
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Tokio(tokio::time::Instant),
    #[cfg(feature = "quanta")]
    Quanta(quanta::Clock, u64),
    #[cfg(all(feature = "coarse", target_os = "linux"))]
    Coarse(coarse::Coarse),
    Shared(Arc<AtomicU64>),
    Manual(Arc<Told>),
}

/// What the hand of a manual clock says, and how often it was asked.
#[derive(Debug, Default)]
struct Told {
    nanos: AtomicU64,
    reads: AtomicU64,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokio(_) => "tokio",
            #[cfg(feature = "quanta")]
            Self::Quanta(..) => "quanta",
            #[cfg(all(feature = "coarse", target_os = "linux"))]
            Self::Coarse(_) => "coarse",
            Self::Shared(_) => "shared",
            Self::Manual(_) => "manual",
        })
    }
}

impl Clock {
    /// Tokio's clock: the system's monotonic one, except under `tokio::time::pause`, where it is
    /// virtual. Needs no runtime.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock the lint points to"
    )]
    pub fn tokio() -> Self {
        Self {
            source: Source::Tokio(tokio::time::Instant::now()),
        }
    }

    /// The processor's own counter, calibrated when the first such clock of the process is made
    /// (which can take 200 ms). Not slewed by NTP, and not stopped by `tokio::time::pause`.
    #[cfg(feature = "quanta")]
    #[must_use]
    pub fn quanta() -> Self {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        Self {
            source: Source::Quanta(clock, start),
        }
    }

    /// The system's monotonic clock, exact as ever, and beside it the kernel's coarse one, from which
    /// [`bounds`](Self::bounds) are read for a tenth of the price. Not stopped by
    /// `tokio::time::pause`. On systems other than Linux it has no bounds, and is only exact.
    #[cfg(feature = "coarse")]
    #[must_use]
    pub fn coarse() -> Self {
        #[cfg(target_os = "linux")]
        return Self {
            source: Source::Coarse(coarse::Coarse::new()),
        };
        #[cfg(not(target_os = "linux"))]
        Self::tokio()
    }

    /// A clock that a thread of its own moves on every `tick`: a reading is one relaxed load, and
    /// late by up to one tick (more when the machine stalls the thread), never early.
    ///
    /// A tick is held between 100 microseconds and one second. The thread ends within a tick of
    /// the last clone.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    #[expect(
        clippy::disallowed_methods,
        reason = "this thread does nothing but read a clock and sleep"
    )]
    pub fn ticked(tick: Duration) -> std::io::Result<Self> {
        let tick = tick.clamp(Duration::from_micros(100), Duration::from_secs(1));
        let shared = Arc::new(AtomicU64::new(0));
        let hand: Weak<AtomicU64> = Arc::downgrade(&shared);
        let start = std::time::Instant::now();
        std::thread::Builder::new()
            .name("buttress-clock".into())
            .spawn(move || {
                loop {
                    std::thread::sleep(tick);
                    let Some(shared) = hand.upgrade() else { return };
                    shared.store(nanos(start.elapsed()), Ordering::Relaxed);
                }
            })?;
        Ok(Self {
            source: Source::Shared(shared),
        })
    }

    /// A clock that stands still until its hand moves it, for tests: yours as well as ours.
    #[must_use]
    pub fn manual() -> (Self, ManualHand) {
        let told = Arc::new(Told::default());
        (
            Self {
                source: Source::Manual(Arc::clone(&told)),
            },
            ManualHand { told },
        )
    }

    /// Two moments between which it is now; the earlier one never goes back. Of [`Clock::coarse`] they
    /// cost a tenth of what it costs to know exactly, of all others they are one: the time now. Who
    /// decides alike whichever it is need not ask further.
    ///
    /// A coarse clock's are two of the kernel's ticks apart (8 ms where it ticks 250 times a second). It
    /// is never earlier than the first; it is later than the second only while the kernel misses more
    /// than a tick, as in a virtual machine that has just gone on.
    #[must_use]
    #[inline]
    pub fn bounds(&self) -> (Moment, Moment) {
        #[cfg(all(feature = "coarse", target_os = "linux"))]
        if let Source::Coarse(coarse) = &self.source {
            let (earliest, latest) = coarse.bounds();
            return (Moment(earliest), Moment(latest));
        }
        let now = self.now();
        (now, now)
    }

    /// The time now. Never goes back.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.source {
            Source::Tokio(start) => Moment(nanos(start.elapsed())),
            #[cfg(feature = "quanta")]
            Source::Quanta(clock, start) => Moment(clock.delta_as_nanos(*start, clock.raw())),
            #[cfg(all(feature = "coarse", target_os = "linux"))]
            Source::Coarse(coarse) => Moment(coarse.exact()),
            Source::Shared(shared) => Moment(shared.load(Ordering::Relaxed)),
            Source::Manual(told) => {
                told.reads.fetch_add(1, Ordering::Relaxed);
                Moment(told.nanos.load(Ordering::Relaxed))
            }
        }
    }
}

impl Clock {
    /// The time now, read after whatever this thread has loaded before: so it is no earlier than a
    /// reading by another thread that was published (`Release`) and loaded (`Acquire`).
    ///
    /// [`now`](Self::now) is that as well, but for [`Clock::quanta`]: a processor may read its counter
    /// some nanoseconds before a load that comes earlier in the program has ended. For that clock this
    /// one takes four times as long; it is for the second look, not for the first.
    #[must_use]
    #[inline]
    pub fn now_in_order(&self) -> Moment {
        #[cfg(feature = "quanta")]
        if let Source::Quanta(..) = &self.source {
            wait_for_loads();
        }
        self.now()
    }
}

/// Lets no later reading of the processor's counter begin before the loads so far have ended.
#[cfg(feature = "quanta")]
#[cold]
#[inline(never)]
#[expect(
    clippy::disallowed_methods,
    reason = "the time that it tells is not looked at"
)]
fn wait_for_loads() {
    // On x86 the fence does it, on Arm the system's clock, which is read behind a barrier of its own.
    std::sync::atomic::fence(Ordering::SeqCst);
    std::hint::black_box(std::time::Instant::now());
}

impl Default for Clock {
    fn default() -> Self {
        Self::tokio()
    }
}

/// Moves the clock that [`Clock::manual`] made with it. Clones move the same clock.
#[derive(Clone, Debug)]
pub struct ManualHand {
    told: Arc<Told>,
}

impl ManualHand {
    /// Moves the clock on by `duration`; at the end of time it stays there.
    pub fn advance(&self, duration: Duration) {
        let step = nanos(duration);
        // The closure always returns Some, so the update cannot fail.
        let _ = self
            .told
            .nanos
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(now.saturating_add(step))
            });
    }

    /// How often the clock and its clones were read: what needs no time reads none, and a test can
    /// say so.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.told.reads.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_at_the_ends_of_time_saturates() {
        let last = Moment::from_nanos(u64::MAX);
        assert_eq!(Moment::START.saturating_add(Duration::MAX), last);
        assert_eq!(last.saturating_add(Duration::from_nanos(1)), last);
        assert_eq!(Moment::START.saturating_since(last), Duration::ZERO);
    }

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let (clock, hand) = Clock::manual();
        let other = clock.clone();
        hand.clone().advance(Duration::from_millis(5));
        assert_eq!(other.now(), Moment::from_nanos(5_000_000));
        assert_eq!(hand.reads(), 1);
        hand.advance(Duration::MAX);
        assert_eq!(clock.now(), Moment::from_nanos(u64::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn tokios_clock_follows_virtual_time() {
        let clock = Clock::tokio();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(
            clock.now().saturating_since(before),
            Duration::from_secs(3600)
        );
    }

    #[test]
    fn tokios_clock_needs_no_runtime() {
        let clock = Clock::default();
        assert!(clock.now() <= clock.now());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "compares the ticked clock with real time"
    )]
    fn a_ticked_clock_moves_is_never_early_and_its_thread_ends_with_it() {
        let start = std::time::Instant::now();
        let clock = Clock::ticked(Duration::from_millis(1)).unwrap();
        while clock.now() < Moment::from_nanos(3_000_000) {
            let told = clock.now();
            assert!(told.as_nanos() <= nanos(start.elapsed()));
            std::thread::sleep(Duration::from_micros(200));
        }
        let Source::Shared(shared) = &clock.source else {
            panic!("a ticked clock is a shared one")
        };
        let hand = Arc::downgrade(shared);
        drop(clock);
        while hand.strong_count() > 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    #[cfg(all(feature = "coarse", target_os = "linux"))]
    #[test]
    fn it_is_always_between_the_bounds_of_a_coarse_clock_or_the_machine_stood_still() {
        let clock = Clock::coarse();
        let (mut last, mut beyond) = (Moment::START, 0);
        for _ in 0..200_000 {
            let before = clock.now();
            let (earliest, latest) = clock.bounds();
            let after = clock.now();
            assert!(earliest >= last && earliest <= after, "it is never ahead");
            assert!(latest > earliest);
            beyond += u32::from(before > latest);
            last = earliest;
        }
        // Others may have had the processor between the readings, or the kernel's ticks.
        assert!(beyond < 200, "{beyond}");
        let (clock, hand) = Clock::manual();
        hand.advance(Duration::from_nanos(7));
        assert_eq!(clock.bounds(), (clock.now(), clock.now()));
    }

    /// Each thread publishes what it read, and reads again when it has seen what the other published.
    fn is_in_order(clock: &Clock) {
        let newest = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (clock, newest) = (clock.clone(), Arc::clone(&newest));
                std::thread::spawn(move || {
                    for _ in 0..50_000 {
                        let seen = newest.load(Ordering::Acquire);
                        let now = clock.now_in_order().as_nanos();
                        assert!(now >= seen, "{now} after {seen}");
                        newest.fetch_max(now, Ordering::AcqRel);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_is_read_in_order_is_no_earlier_than_what_another_thread_has_told() {
        is_in_order(&Clock::tokio());
        is_in_order(&Clock::ticked(Duration::from_micros(100)).unwrap());
        #[cfg(feature = "quanta")]
        is_in_order(&Clock::quanta());
        #[cfg(feature = "coarse")]
        is_in_order(&Clock::coarse());
        let (clock, hand) = Clock::manual();
        hand.advance(Duration::from_nanos(7));
        assert_eq!(clock.now_in_order(), clock.now());
    }

    #[cfg(feature = "quanta")]
    #[test]
    fn quantas_clock_moves_on() {
        let clock = Clock::quanta();
        let before = clock.now();
        while clock.now() == before {
            std::hint::spin_loop();
        }
        assert!(clock.now() > before);
    }
}
