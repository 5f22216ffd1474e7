//! What every store answers to many at once, as if they had come one after another.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_idempotency::{
    ScopedKey,
    store::{Answer, MemoryStore, Request, Store},
};
use buttress_store::{Fence, Token};
use buttress_testkit::{
    linearizability::{Model, NotLinearizable, Recorder, check},
    redis::fresh_prefix,
    seed::Seed,
    short_or_long,
};
use bytes::Bytes;
use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::{
    planted::{Bug, Buggy},
    stand::{ASKED, OnMySql, OnPostgres, OnSqlite, key, on_redis},
};

const CLIENTS: u32 = 4;
const TURNS: u32 = 6;

/// One key: who has it, and what came of it. It has no clock: that a lease or a record may have
/// run out is a call of its own.
#[derive(Clone, Debug)]
struct OneKey;

type Who = [u8; 16];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Now {
    Free,
    Held { who: Who, lapsed: bool },
    Done(Who),
}

#[derive(Clone, Debug)]
enum Call {
    Ask(Who),
    Complete(Who),
    Release(Who),
    Lapse(Who),
    Expire(Who),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Yours,
    InFlight,
    Done(Vec<u8>),
    Took(bool),
}

impl Model for OneKey {
    type State = Now;
    type Call = Call;
    type Return = Said;

    fn initial(&self) -> Now {
        Now::Free
    }

    fn step(&self, state: &Now, call: &Call, returned: Option<&Said>) -> Option<Now> {
        let held = |who: &Who| matches!(state, Now::Held { who: holder, .. } if holder == who);
        let (said, after) = match call {
            Call::Ask(who) => match state {
                Now::Free | Now::Held { lapsed: true, .. } => {
                    let (who, lapsed) = (*who, false);
                    (Said::Yours, Some(Now::Held { who, lapsed }))
                }
                Now::Held { .. } => (Said::InFlight, None),
                Now::Done(by) => (Said::Done(by.to_vec()), None),
            },
            Call::Complete(who) => (Said::Took(held(who)), held(who).then_some(Now::Done(*who))),
            Call::Release(who) => (Said::Took(held(who)), held(who).then_some(Now::Free)),
            Call::Lapse(who) => {
                let (who, lapsed) = (*who, true);
                (
                    Said::Took(true),
                    held(&who).then_some(Now::Held { who, lapsed }),
                )
            }
            Call::Expire(who) => {
                let his = held(who) || *state == Now::Done(*who);
                (Said::Took(true), his.then_some(Now::Free))
            }
        };
        let fits = returned.is_none_or(|returned| *returned == said);
        fits.then(|| after.unwrap_or_else(|| state.clone()))
    }
}

/// What a schedule writes down, and what becomes possible later in it.
#[derive(Clone, Default)]
struct Book {
    recorder: Recorder<(), Call, Said>,
    due: Arc<Mutex<Vec<(Instant, Call)>>>,
}

impl Book {
    fn later(&self, at: Instant, call: Call) {
        self.due.lock().unwrap().push((at, call));
    }

    /// Writes down what has become possible. Called before each return: what a client has seen was
    /// possible before.
    fn catch_up(&self) {
        let now = Instant::now();
        self.due.lock().unwrap().retain(|(at, call)| {
            if *at <= now {
                drop(self.recorder.call((), call.clone()));
            }
            *at > now
        });
    }

    async fn call(&self, call: Call, operation: impl Future<Output = Said>) -> Said {
        let pending = self.recorder.call((), call);
        let said = operation.await;
        self.catch_up();
        pending.returned(said.clone());
        said
    }
}

/// How long a claim holds in a schedule, and how long its record stays.
#[derive(Clone, Copy)]
struct Times {
    lease: Duration,
    retention: Duration,
}

/// A client that comes again and again: works, dies, comes back too late, changes his mind.
async fn client(store: &dyn Store, key: &ScopedKey, book: &Book, times: Times, mut rng: StdRng) {
    let Times { lease, retention } = times;
    let pause = |rng: &mut StdRng, most: Duration| rng.random_range(Duration::ZERO..most);
    for _ in 0..TURNS {
        sleep(pause(&mut rng, lease)).await;
        let token = Token::random();
        let who = *token.as_bytes();
        let sent = Instant::now();
        let mut fence = None;
        let said = book
            .call(Call::Ask(who), async {
                let request = Request::new(key, ASKED, token, lease, retention);
                match store.claim(&request).await.unwrap() {
                    Answer::Claimed(his) => {
                        fence = Some(his);
                        // Stores that count in milliseconds may be one early.
                        let lapses = sent + lease.saturating_sub(Duration::from_millis(1));
                        book.later(lapses, Call::Lapse(who));
                        book.later(lapses + retention, Call::Expire(who));
                        Said::Yours
                    }
                    Answer::InFlight { .. } => Said::InFlight,
                    Answer::Done(outcome) => Said::Done(outcome.to_vec()),
                    other => panic!("{other:?}"),
                }
            })
            .await;
        let Some(fence) = fence else {
            assert_ne!(said, Said::Yours);
            continue;
        };
        sleep(pause(&mut rng, lease * 3 / 2)).await;
        end(store, key, book, fence, retention, &mut rng).await;
    }
}

async fn end(
    store: &dyn Store,
    key: &ScopedKey,
    book: &Book,
    fence: Fence,
    retention: Duration,
    rng: &mut StdRng,
) {
    let who = *fence.token().as_bytes();
    match rng.random_range(0..10) {
        0..4 => {
            let completes = async {
                let outcome = Bytes::copy_from_slice(&who);
                let done = store.complete(key, fence, &outcome, retention).await;
                Said::Took(done.unwrap())
            };
            book.call(Call::Complete(who), completes).await;
        }
        4..7 => {
            let releases = async { Said::Took(store.release(key, fence).await.unwrap()) };
            book.call(Call::Release(who), releases).await;
        }
        7 => drop(store.doubt(key, fence).await.unwrap()),
        // It is gone.
        _ => {}
    }
}

/// Some clients at one key, and a reaper.
async fn schedule(store: &dyn Store, times: Times, seed: u64) -> Book {
    let mut rng = StdRng::seed_from_u64(seed);
    let key = key(&format!("{seed}-{}", rng.random::<u64>()));
    let book = Book::default();
    let clients = (0..CLIENTS).map(|number| {
        let rng = StdRng::seed_from_u64(seed ^ (u64::from(number) << 60));
        client(store, &key, &book, times, rng)
    });
    join_all(clients).await;
    book
}

async fn schedules(store: &dyn Store) -> Result<(), NotLinearizable> {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let (count, at_once) = (short_or_long(500, 20_000), 50);
    for round in 0..count / at_once {
        let lease = Duration::from_millis(rng.random_range(10..30));
        // In each second round records expire, and are reaped, while they are asked for.
        let retention = Duration::from_millis([60_000, 10][round % 2]);
        let times = Times { lease, retention };
        let all = (0..at_once).map(|_| schedule(store, times, rng.random()));
        let reaps = async {
            loop {
                store.reap(20).await.unwrap();
                sleep(Duration::from_millis(3)).await;
            }
        };
        let books = tokio::select! {
            books = join_all(all) => books,
            () = reaps => unreachable!("it goes on"),
        };
        // Afterwards, for a search keeps the runtime, and deadlines would strike.
        for book in books {
            check(&OneKey, &book.recorder)?;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_answers_as_if_asked_in_turn() {
    schedules(&MemoryStore::new()).await.unwrap();
}

#[tokio::test]
async fn the_store_on_sqlite_answers_as_if_asked_in_turn() {
    let on = OnSqlite::start().await;
    schedules(&on.store).await.unwrap();
}

#[tokio::test]
async fn the_store_on_postgres_answers_as_if_asked_in_turn() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    schedules(&on.store).await.unwrap();
    on.close().await;
}

#[tokio::test]
async fn the_store_on_mysql_answers_as_if_asked_in_turn() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    schedules(&on.store).await.unwrap();
    on.close().await;
}

#[tokio::test]
async fn the_store_on_redis_answers_as_if_asked_in_turn() {
    let Some(prefix) = fresh_prefix() else { return };
    let store = on_redis(prefix.url(), prefix.as_str()).await;
    schedules(&store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_without_fence_or_lease_is_found_out() {
    for bug in [Bug::NoFence, Bug::NoLease] {
        let judged = schedules(&Buggy::new(bug)).await;
        assert!(judged.is_err(), "{bug:?} passes");
    }
}
