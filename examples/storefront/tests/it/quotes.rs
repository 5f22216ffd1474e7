//! Shipping quotes, whatever the carrier does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use buttress_testkit::tier::short_or_long;
use futures_util::{StreamExt, future::join_all, stream};
use reqwest::Response;

use crate::shop::{Shop, error};

const QUOTE: &str = "/shipping-quotes?country=SE&quantity=3";

async fn quote(shop: &Shop) -> (Response, Duration) {
    let asked = Instant::now();
    let response = shop.get(QUOTE).send().await.unwrap();
    let took = asked.elapsed();
    if response.status() == 503 {
        // Also while a probe decides, and nobody knows for how long.
        let wait = response.headers()["retry-after"].to_str().unwrap();
        assert!((1..=10).contains(&wait.parse::<u64>().unwrap()), "{wait}");
    }
    (response, took)
}

/// Asks one quote after the other until the breaker is open; how many failed before.
async fn failed_until_open(shop: &Shop) -> usize {
    for failed in 0..=10 {
        let (response, took) = quote(shop).await;
        assert!(took < Duration::from_secs(3), "{took:?}");
        if response.status() == 503 {
            error(response, 503, "CIRCUIT_OPEN").await;
            return failed;
        }
        assert!(matches!(response.status().as_u16(), 502 | 504));
    }
    panic!("more than ten quotes failed, and the breaker is closed");
}

#[tokio::test]
async fn the_breaker_opens_after_at_most_ten_failed_quotes_and_closes_by_itself() {
    let modes = [("error", 0), ("lost", 0), ("hang", 0), ("slow", 30_000)];
    join_all(modes.map(|(mode, latency)| opens_and_closes(mode, latency))).await;
}

async fn opens_and_closes(mode: &str, latency: u64) {
    let shop = Shop::alone();
    // What went well before does not keep it from opening.
    for _ in 0..50 {
        assert_eq!(quote(&shop).await.0.status(), 200);
    }
    shop.fault("carrier", mode, 1.0, latency).await;
    failed_until_open(&shop).await;
    let mut took = Vec::new();
    for _ in 0..50 {
        let (response, time) = quote(&shop).await;
        assert_eq!(response.status(), 503, "{mode}");
        took.push(time);
    }
    took.sort_unstable();
    assert!(took[25] < Duration::from_millis(50), "{took:?}");

    shop.fault("carrier", "ok", 1.0, 0).await;
    let healed = Instant::now();
    while quote(&shop).await.0.status() != 200 {
        assert!(healed.elapsed() < Duration::from_secs(10), "{mode}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_burst_at_a_hanging_carrier_does_not_wait_for_it_quote_by_quote() {
    let shop = Shop::alone();
    shop.fault("carrier", "hang", 1.0, 0).await;
    let quotes = stream::iter(0..100).map(|_| quote(&shop));
    let answers: Vec<_> = quotes.buffer_unordered(100).collect().await;
    // All of them were on their way when the first ten attempts had failed; none tries again.
    for (response, took) in answers {
        assert!(matches!(response.status().as_u16(), 503 | 504));
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    assert_eq!(failed_until_open(&shop).await, 0);
}

#[tokio::test]
async fn the_breaker_is_never_open_for_more_than_ten_seconds_at_a_time() {
    let shop = Shop::alone();
    shop.fault("carrier", "error", 1.0, 0).await;
    failed_until_open(&shop).await;
    // A probe takes its time from now on.
    shop.fault("carrier", "hang", 1.0, 0).await;
    let (begun, mut last) = (Instant::now(), Instant::now());
    let watched = Duration::from_secs(short_or_long(8, 60));
    while begun.elapsed() < watched {
        // A probe takes its time; what is rejected does not.
        if quote(&shop).await.1 > Duration::from_millis(700) {
            last = Instant::now();
        }
        assert!(last.elapsed() < Duration::from_secs(11));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(last > begun, "no probe was let through");
}

#[tokio::test]
async fn with_a_fifth_of_the_carriers_calls_failing_nine_quotes_in_ten_succeed_and_it_stays_closed()
{
    let quotes = short_or_long(300, 5000);
    let modes = [("error", quotes), ("lost", quotes), ("hang", quotes / 5)];
    join_all(modes.map(|(mode, quotes)| a_fifth_fails(mode, quotes))).await;
}

async fn a_fifth_fails(mode: &str, quotes: usize) {
    for round in 1.. {
        let pulse = Pulse::begin();
        let judged = nine_in_ten(mode, quotes).await;
        let stood = pulse.longest_pause();
        // A machine that stands still fails calls that the carrier did not, and only that excuses it.
        match judged {
            Ok(()) => return,
            Err(_) if stood > STANDSTILL && round < 3 => {}
            Err(wrong) => panic!("{mode}: {wrong}; no pause of the machine over {stood:?}"),
        }
    }
}

/// More than a thread waits on a machine that has time.
const STANDSTILL: Duration = Duration::from_millis(50);

/// A thread that does nothing but look how late it is woken.
struct Pulse {
    beating: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Pulse {
    fn begin() -> Self {
        let beating = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&beating);
        let thread = std::thread::spawn(move || {
            let (beat, mut longest) = (Duration::from_millis(5), Duration::ZERO);
            while goes_on.load(Relaxed) {
                let slept = Instant::now();
                std::thread::sleep(beat);
                longest = longest.max(slept.elapsed().saturating_sub(beat));
            }
            longest
        });
        Self { beating, thread }
    }

    fn longest_pause(self) -> Duration {
        self.beating.store(false, Relaxed);
        self.thread.join().unwrap()
    }
}

async fn nine_in_ten(mode: &str, quotes: usize) -> Result<(), String> {
    let shop = Shop::alone();
    shop.fault("carrier", mode, 0.2, 0).await;
    let answers = stream::iter(0..quotes).map(|_| quote(&shop));
    let answers: Vec<_> = answers.buffer_unordered(6).collect().await;
    let with_status = |status: u16| {
        let those = answers.iter().filter(|(it, _)| it.status() == status);
        those.count()
    };
    let (good, refused) = (with_status(200), with_status(503));
    let longest = answers.iter().map(|(_, took)| *took).max();
    let in_time = longest.is_some_and(|it| it < Duration::from_secs(3));
    if good * 10 >= quotes * 9 && refused == 0 && in_time {
        return Ok(());
    }
    Err(format!(
        "{good} of {quotes}, the breaker kept {refused} back, the longest took {longest:?}"
    ))
}

#[tokio::test]
async fn customers_who_leave_a_hanging_carrier_leave_nothing_behind() {
    let shop = Shop::alone();
    shop.fault("carrier", "hang", 1.0, 0).await;
    let left = stream::iter(0..40).map(|_| {
        let request = shop.get(QUOTE).timeout(Duration::from_millis(100));
        async move {
            // Once the breaker is open, the answer comes before they leave.
            match request.send().await {
                Ok(answer) => assert_eq!(answer.status(), 503),
                Err(error) => assert!(error.is_timeout(), "{error}"),
            }
        }
    });
    left.buffer_unordered(10).collect::<Vec<()>>().await;
    shop.fault("carrier", "ok", 1.0, 0).await;
    let healed = Instant::now();
    while quote(&shop).await.0.status() != 200 {
        assert!(healed.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
