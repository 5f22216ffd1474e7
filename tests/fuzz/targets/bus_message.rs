//! A message on the bus, of any bytes: never a panic, and one that is none may have been anything.
#![no_main]

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use buttress_cache_aside::bus::{Bus, Line, LinePolicy, MemoryBus, News};
use buttress_core::Clock;
use buttress_store::{Deadline, Key};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

struct Stand {
    runtime: Runtime,
    bus: MemoryBus,
    space: Key,
    heard: Arc<Mutex<Vec<News>>>,
    _line: Line,
}

static STAND: LazyLock<Stand> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let (bus, space) = (MemoryBus::new(), Key::new("fuzzed").unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let line = runtime.block_on(async {
        let ear = move |news: News| hears.lock().unwrap().push(news);
        // Its own beats do not come between.
        let policy = LinePolicy {
            beat: Duration::from_secs(60),
            silence: Duration::from_secs(600),
            ..LinePolicy::default()
        };
        let over: Arc<dyn Bus> = Arc::new(bus.clone());
        let line = Line::start(over, space.clone(), ear, policy, Clock::tokio()).unwrap();
        turns().await;
        line
    });
    Stand {
        runtime,
        bus,
        space,
        heard,
        _line: line,
    }
});

async fn turns() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

fuzz_target!(|input: &[u8]| {
    let stand = &*STAND;
    stand.heard.lock().unwrap().clear();
    stand.runtime.block_on(async {
        let deadline = Deadline::after(Duration::from_secs(5));
        stand
            .bus
            .publish(&stand.space, input, deadline)
            .await
            .unwrap();
        turns().await;
    });
    let heard = stand.heard.lock().unwrap();
    if !input.starts_with(b"BCAB\x01") {
        assert!(
            heard.iter().any(|news| matches!(news, News::Lost(_))),
            "what is no message may have been anything"
        );
    }
});
