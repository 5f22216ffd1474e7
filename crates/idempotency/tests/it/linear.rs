//! What every store answers to many at once, as if they had come one after another.

use std::time::Duration;

use buttress_idempotency::{
    ScopedKey,
    store::{Answer, MemoryStore, Request, Store},
};
use buttress_store::{Fence, Gate, Token};
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
    stand::{ASKED, OnMySql, OnPostgres, OnSqlite, SECOND, key, on_redis},
};

const CLIENTS: u32 = 4;
const TURNS: u32 = 6;

/// How long a claim holds in a schedule, and how long its record stays.
#[derive(Clone, Copy, Debug)]
struct Times {
    lease: Duration,
    retention: Duration,
}

/// One key: who has it, and what came of it. Leases and records run out by the store's clock, of
/// which is known that it ticks as ours: so not sooner than so long after a claim was sent, and not
/// later than so long after its answer came.
#[derive(Clone, Debug)]
struct OneKey(Times);

type Who = [u8; 16];

/// From when on something may be over, and from when on it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Over {
    may: Instant,
    must: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Now {
    Free,
    Held { who: Who, lease: Over, record: Over },
    Done { who: Who, record: Over },
}

#[derive(Clone, Debug)]
enum What {
    Ask,
    Complete,
    Release,
}

#[derive(Clone, Debug)]
struct Call {
    who: Who,
    what: What,
    sent: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answered {
    Yours,
    InFlight,
    /// In flight, and nobody knows for how long: another was just writing the record, be it the
    /// reaper. It is right at any time, for he comes back.
    Busy,
    Done(Vec<u8>),
    Took(bool),
}

#[derive(Clone, Debug)]
struct Said {
    said: Answered,
    at: Instant,
}

impl Model for OneKey {
    type State = Now;
    type Call = Call;
    type Return = Said;

    fn initial(&self) -> Now {
        Now::Free
    }

    fn step(&self, state: &Now, call: &Call, returned: Option<&Said>) -> Option<Now> {
        let Said { said, at } = returned?;
        let Times { lease, retention } = self.0;
        // Stores that count in milliseconds may be one early, or late.
        let early = |after: Duration| after.saturating_sub(Duration::from_millis(1));
        let late = |after: Duration| after + Duration::from_millis(2);
        let may = |over: &Over| *at >= over.may;
        let must = |over: &Over| call.sent >= over.must;
        let free = match state {
            Now::Free => true,
            Now::Held { lease, record, .. } => may(lease) || may(record),
            Now::Done { record, .. } => may(record),
        };
        let held = matches!(state, Now::Held { who, .. } if *who == call.who);
        let reaped =
            matches!(state, Now::Held { record, .. } | Now::Done { record, .. } if may(record));
        match (&call.what, said) {
            (What::Ask, Answered::Yours) => free.then(|| Now::Held {
                who: call.who,
                lease: Over {
                    may: call.sent + early(lease),
                    must: *at + late(lease),
                },
                record: Over {
                    may: call.sent + early(lease + retention),
                    must: *at + late(lease + retention),
                },
            }),
            (What::Ask, Answered::InFlight) => {
                let fits = matches!(state, Now::Held { lease, .. } if !must(lease));
                fits.then(|| state.clone())
            }
            (What::Ask, Answered::Busy) => Some(state.clone()),
            (What::Ask, Answered::Done(outcome)) => {
                let fits = matches!(state, Now::Done { who, record } if who[..] == outcome[..] && !must(record));
                fits.then(|| state.clone())
            }
            (What::Complete, Answered::Took(true)) => match state {
                Now::Held { who, record, .. } if held => {
                    let (who, mut record) = (*who, *record);
                    record.must = record.must.max(*at + late(retention));
                    Some(Now::Done { who, record })
                }
                _ => None,
            },
            (What::Release, Answered::Took(true)) => held.then_some(Now::Free),
            (_, Answered::Took(false)) if !held => Some(state.clone()),
            (_, Answered::Took(false)) if reaped => Some(Now::Free),
            _ => None,
        }
    }
}

type Book = Recorder<(), Call, Said>;

async fn write_down(
    book: &Book,
    call: Call,
    operation: impl Future<Output = Answered>,
) -> Answered {
    let pending = book.call((), call);
    let said = operation.await;
    let at = Instant::now();
    pending.returned(Said {
        said: said.clone(),
        at,
    });
    said
}

/// A client that comes again and again: works, dies, comes back too late, changes his mind.
async fn client(store: &dyn Store, key: &ScopedKey, book: &Book, times: Times, mut rng: StdRng) {
    let Times { lease, retention } = times;
    let pause = |rng: &mut StdRng, most: Duration| rng.random_range(Duration::ZERO..most);
    for _ in 0..TURNS {
        sleep(pause(&mut rng, lease)).await;
        let token = Token::random();
        let who = *token.as_bytes();
        let mut fence = None;
        let (what, sent) = (What::Ask, Instant::now());
        write_down(book, Call { who, what, sent }, async {
            let request = Request::new(key, ASKED, token, lease, retention);
            match store.claim(&request).await.unwrap() {
                Answer::Claimed(his) => {
                    fence = Some(his);
                    Answered::Yours
                }
                Answer::InFlight { remaining, .. } if remaining.is_zero() => Answered::Busy,
                Answer::InFlight { .. } => Answered::InFlight,
                Answer::Done(outcome) => Answered::Done(outcome.to_vec()),
                other => panic!("{other:?}"),
            }
        })
        .await;
        let Some(fence) = fence else { continue };
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
    let sent = Instant::now();
    match rng.random_range(0..10) {
        0..4 => {
            let completes = async {
                let outcome = Bytes::copy_from_slice(&who);
                let done = store.complete(key, fence, &outcome, retention).await;
                Answered::Took(done.unwrap())
            };
            let what = What::Complete;
            write_down(book, Call { who, what, sent }, completes).await;
        }
        4..7 => {
            let releases = async { Answered::Took(store.release(key, fence).await.unwrap()) };
            let what = What::Release;
            write_down(book, Call { who, what, sent }, releases).await;
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
    let book = Book::new();
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
    let (count, at_once) = (short_or_long(500, 20_000), 25);
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
            check(&OneKey(times), &book)?;
        }
    }
    Ok(())
}

/// Two hundred at ten connections, on a machine that does much else.
fn patient() -> Gate {
    Gate::sql().with_deadline(60 * SECOND).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_answers_as_if_asked_in_turn() {
    let tally = buttress_testkit::tally::suite("ID6 ID7");
    schedules(&MemoryStore::new()).await.unwrap();
    tally.operations(short_or_long(500, 20_000));
}

#[tokio::test]
async fn the_store_on_sqlite_answers_as_if_asked_in_turn() {
    let tally = buttress_testkit::tally::suite("ID6 ID7");
    let on = OnSqlite::start().await;
    schedules(&on.store.clone().with_gate(patient()))
        .await
        .unwrap();
    tally.operations(short_or_long(500, 20_000));
}

#[tokio::test]
async fn the_store_on_postgres_answers_as_if_asked_in_turn() {
    let tally = buttress_testkit::tally::suite("ID6 ID7");
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    schedules(&on.store.clone().with_gate(patient()))
        .await
        .unwrap();
    on.close().await;
    tally.operations(short_or_long(500, 20_000));
}

#[tokio::test]
async fn the_store_on_mysql_answers_as_if_asked_in_turn() {
    let tally = buttress_testkit::tally::suite("ID6 ID7");
    let Some(on) = OnMySql::start().await else {
        return;
    };
    schedules(&on.store.clone().with_gate(patient()))
        .await
        .unwrap();
    on.close().await;
    tally.operations(short_or_long(500, 20_000));
}

#[tokio::test]
async fn the_store_on_redis_answers_as_if_asked_in_turn() {
    let tally = buttress_testkit::tally::suite("ID6 ID7");
    let Some(prefix) = fresh_prefix() else { return };
    let store = on_redis(prefix.url(), prefix.as_str()).await;
    schedules(&store).await.unwrap();
    tally.operations(short_or_long(500, 20_000));
}

#[tokio::test(start_paused = true)]
async fn a_store_without_fence_or_lease_is_found_out() {
    let tally = buttress_testkit::tally::suite("ID6");
    for bug in [Bug::NoFence, Bug::NoLease] {
        let judged = schedules(&Buggy::new(bug)).await;
        assert!(judged.is_err(), "{bug:?} passes");
    }
    tally.caught(2);
}
