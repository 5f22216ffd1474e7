//! CA6: an invalidation that was lost is noticed, and what was heard is known.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use buttress_cache_aside::bus::{
    Bus, Line, LinePolicy, LinePolicyError, Loss, MemoryBus, News, RedisBus, Subscription,
};
use buttress_core::Clock;
use buttress_store::{Deadline, Key, StoreError};
use buttress_testkit::{
    eventually,
    proxy::{Proxy, Way},
    redis::{Server, fresh_prefix},
};

use crate::stores::{key, redis_connection};

const BEAT: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

type Heard = Arc<Mutex<Vec<News>>>;

fn policy() -> LinePolicy {
    LinePolicy {
        beat: BEAT,
        silence: Duration::from_millis(400),
        ..LinePolicy::default()
    }
}

fn line(bus: impl Bus + 'static, space: &Key) -> (Line, Heard) {
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    let ear = move |news: News| hears.lock().unwrap().push(news);
    let bus: Arc<dyn Bus> = Arc::new(bus);
    let line = Line::start(bus, space.clone(), ear, policy(), Clock::tokio());
    (line.unwrap(), heard)
}

async fn ready(line: &Line) {
    let what = "its own beat comes back";
    eventually(what, PATIENCE, async || line.heard_ago()).await;
}

fn has(heard: &Heard, news: &News) -> bool {
    heard.lock().unwrap().contains(news)
}

async fn hears(heard: &Heard, news: &News) {
    let what = "the other hears it";
    eventually(what, PATIENCE, async || has(heard, news).then_some(())).await;
}

async fn redis_bus(url: &str, prefix: &str) -> RedisBus {
    let client = ::redis::Client::open(url).unwrap();
    let connection = redis_connection(url).await;
    RedisBus::new(client, connection, prefix).unwrap()
}

async fn what_is_said_is_heard_by_all_others(one: impl Bus + 'static, two: impl Bus + 'static) {
    let space = key("said");
    let ((a, heard_a), (b, heard_b)) = (line(one, &space), line(two, &space));
    ready(&a).await;
    ready(&b).await;
    let news = vec![
        News::Changed(key("a")),
        News::Expired(key("b")),
        News::Marked {
            tag: key("t"),
            stamp: None,
        },
        News::Cleared { stamp: None },
    ];
    heard_b.lock().unwrap().clear();
    a.say(news.clone()).await.unwrap();
    hears(&heard_b, &news[3]).await;
    assert_eq!(*heard_b.lock().unwrap(), news, "in order, and nothing else");
    assert!(!has(&heard_a, &news[0]), "nobody hears himself");
    // More than fits into one message.
    let many: Vec<News> = (0..2500)
        .map(|n| News::Changed(key(&format!("many {n}"))))
        .collect();
    b.say(many.clone()).await.unwrap();
    hears(&heard_a, &many[2499]).await;
    assert!(many.iter().all(|news| has(&heard_a, news)));
    let lost = |news: &News| matches!(news, News::Lost(Loss::Gap | Loss::Unreadable));
    assert!(!heard_a.lock().unwrap().iter().any(lost), "no gap was seen");
}

#[tokio::test]
async fn in_memory_what_is_said_is_heard_by_all_others() {
    let bus = MemoryBus::new();
    what_is_said_is_heard_by_all_others(bus.clone(), bus).await;
}

#[tokio::test]
async fn on_redis_what_is_said_is_heard_by_all_others() {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let name = prefix.as_str().trim_end_matches(':');
    let one = redis_bus(prefix.url(), name).await;
    let two = redis_bus(prefix.url(), name).await;
    what_is_said_is_heard_by_all_others(one, two).await;
}

/// The contract of [`Line::heard_within`]: if it says so, what was said before that has been heard. Against it: messages,
/// each followed by a look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_heard_lately_has_heard_all_that_was_said_before() {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let name = prefix.as_str().trim_end_matches(':');
    let (proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let space = key("lately");
    let (a, _) = line(redis_bus(prefix.url(), name).await, &space);
    let (b, heard) = line(redis_bus(&url, name).await, &space);
    ready(&a).await;
    ready(&b).await;
    let clock = Clock::tokio();
    let mut looked = 0;
    for n in 0..120_u32 {
        proxy.delay(Way::ToClient, Duration::from_millis(u64::from(n % 4) * 3));
        let news = News::Changed(key(&format!("n {n}")));
        a.say(vec![news.clone()]).await.unwrap();
        let said = clock.now();
        tokio::time::sleep(Duration::from_millis(u64::from(n * 7 % 60))).await;
        // Heard up to a moment after it was said, then it was heard.
        let since = clock.now().saturating_since(said);
        if b.heard_within(since) {
            looked += 1;
            assert!(has(&heard, &news), "{n} was said, and not heard");
        }
    }
    assert!(looked > 10, "it was never looked at: {looked}");
}

#[tokio::test]
async fn ca6_a_lost_connection_is_told_and_made_anew() {
    let _tally = buttress_testkit::tally::suite("CA6");
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let name = prefix.as_str().trim_end_matches(':');
    let (proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let space = key("cut");
    let (a, _) = line(redis_bus(prefix.url(), name).await, &space);
    let (b, heard) = line(redis_bus(&url, name).await, &space);
    ready(&a).await;
    for round in 0..3 {
        ready(&b).await;
        heard.lock().unwrap().clear();
        match round {
            0 => proxy.cut().await,
            // It stands, and nothing comes.
            1 => proxy.black_hole(Way::ToClient),
            // Nothing that is said gets there.
            _ => proxy.black_hole(Way::ToServer),
        }
        let lost = News::Changed(key("lost"));
        a.say(vec![lost.clone()]).await.unwrap();
        hears(&heard, &News::Lost(Loss::Disconnected)).await;
        proxy.heal().await.unwrap();
        ready(&b).await;
        let again = News::Changed(key(&format!("again {round}")));
        let said = eventually("it is heard again", PATIENCE, async || {
            a.say(vec![again.clone()]).await.ok()?;
            has(&heard, &again).then_some(())
        });
        said.await;
        if has(&heard, &lost) {
            continue; // it came late, which is no loss
        }
        let all = heard.lock().unwrap();
        let told = all.iter().position(|news| matches!(news, News::Lost(_)));
        let next = all.iter().position(|news| *news == again);
        assert!(told < next, "what was lost is told before what comes next");
    }
}

#[tokio::test]
async fn a_deaf_instance_does_not_say_that_it_has_heard() {
    let bus = MemoryBus::new();
    let (line, heard) = line(bus.clone(), &key("deaf"));
    assert!(
        !line.heard_within(Duration::MAX),
        "it has heard nothing yet"
    );
    ready(&line).await;
    bus.set_away(true);
    hears(&heard, &News::Lost(Loss::Disconnected)).await;
    let near = Duration::from_millis(100);
    tokio::time::sleep(near + BEAT * 2).await;
    assert!(!line.heard_within(near));
    let news = vec![News::Changed(key("a"))];
    assert!(line.say(news).await.is_err(), "nobody took it");
    bus.set_away(false);
    eventually("it hears again", PATIENCE, async || {
        line.heard_within(near).then_some(())
    })
    .await;
}

/// Loses each third message of those with news, which a bus may.
#[derive(Debug)]
struct Lossy(MemoryBus, Mutex<u32>);

#[async_trait]
impl Bus for Lossy {
    async fn publish(
        &self,
        space: &Key,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let with_news = message[37..39] != [0, 0];
        if with_news {
            let mut sent = self.1.lock().unwrap();
            *sent += 1;
            if sent.is_multiple_of(3) {
                return Ok(());
            }
        }
        self.0.publish(space, message, deadline).await
    }

    async fn subscribe(
        &self,
        space: &Key,
        deadline: Deadline,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        self.0.subscribe(space, deadline).await
    }
}

#[tokio::test]
async fn ca6_a_lost_message_is_noticed_by_the_next_beat() {
    let tally = buttress_testkit::tally::suite("CA6");
    let bus = MemoryBus::new();
    let space = key("lossy");
    let (a, _) = line(Lossy(bus.clone(), Mutex::default()), &space);
    let (b, heard) = line(bus, &space);
    ready(&a).await;
    ready(&b).await;
    for round in 1..=6 {
        heard.lock().unwrap().clear();
        let news = News::Changed(key("a"));
        a.say(vec![news.clone()]).await.unwrap();
        let gap = News::Lost(Loss::Gap);
        if round % 3 == 0 {
            hears(&heard, &gap).await;
            assert!(!has(&heard, &news));
        } else {
            hears(&heard, &news).await;
            tokio::time::sleep(BEAT * 3).await;
            assert!(!has(&heard, &gap), "nothing was lost");
        }
    }
    tally.faults(2);
}

#[tokio::test]
async fn what_is_no_message_may_have_been_anything() {
    let bus = MemoryBus::new();
    let space = key("strange");
    let (line, heard) = line(bus.clone(), &space);
    ready(&line).await;
    let soon = Deadline::after(PATIENCE);
    bus.publish(&space, b"hello", soon).await.unwrap();
    hears(&heard, &News::Lost(Loss::Unreadable)).await;
}

#[tokio::test]
async fn a_restarted_redis_is_listened_to_again() {
    let _tally = buttress_testkit::tally::suite("CA6 X9");
    let Ok(server) = Server::start() else {
        return;
    };
    let (line, heard) = line(redis_bus(&server.url(), "b").await, &key("restart"));
    ready(&line).await;
    heard.lock().unwrap().clear();
    server.kill();
    hears(&heard, &News::Lost(Loss::Disconnected)).await;
    let near = Duration::from_millis(200);
    tokio::time::sleep(near).await;
    assert!(!line.heard_within(near));
    server.restart().unwrap();
    eventually("it hears again", PATIENCE, async || {
        line.heard_within(near).then_some(())
    })
    .await;
}

#[test]
fn a_policy_that_cannot_work_is_refused_with_its_field() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let _entered = runtime.as_ref().unwrap().enter();
    let start = |policy| {
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new());
        Line::start(bus, key("p"), |_: News| {}, policy, Clock::tokio()).unwrap_err()
    };
    let default = LinePolicy::default();
    let beat = Duration::from_millis(9);
    let error = start(LinePolicy { beat, ..default });
    assert_eq!(error, LinePolicyError::Beat(beat));
    let silence = Duration::from_millis(499);
    let error = start(LinePolicy { silence, ..default });
    assert_eq!(error, LinePolicyError::Silence(silence));
    let deadline = Duration::ZERO;
    let error = start(LinePolicy {
        deadline,
        ..default
    });
    assert_eq!(error, LinePolicyError::Deadline(deadline));
}
