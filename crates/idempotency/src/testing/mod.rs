//! The suite by which a store is judged: ours, and one of yours.

mod phases;
mod together;

use std::time::Duration;

use buttress_store::{Fence, StoreError, Token};
use bytes::Bytes;
use tokio::time::sleep;

use crate::{
    Fingerprint, Key, Scope, ScopedKey,
    store::{Answer, Request, Store},
};

/// A lease that outlasts a case, also on a loaded machine.
const LONG: Duration = Duration::from_secs(60);
/// A lease that is over soon.
const SHORT: Duration = Duration::from_millis(100);
/// By then it is, with room for stores that count in milliseconds.
const OVER: Duration = Duration::from_millis(120);

const ASKED: Fingerprint = Fingerprint::new(1, [1; 32]);
const OTHER: Fingerprint = Fingerprint::new(1, [2; 32]);
const NEWER: Fingerprint = Fingerprint::new(2, [3; 32]);

/// Judges `store` by every case, in about four seconds. It may hold anything; keys are fresh.
///
/// Stores see their own clock, so it takes real time: not under `tokio::time::pause`, unless the
/// store is told tokio's.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use buttress_idempotency::{store::MemoryStore, testing};
///
/// testing::conforms(&MemoryStore::new()).await;
/// # }
/// ```
///
/// # Panics
///
/// When the store does not do what it should, with what that is.
pub async fn conforms(store: &dyn Store) {
    what_is_done_is_replayed_byte_by_byte(store).await;
    a_mismatch_is_said_before_anything_else(store).await;
    a_fingerprint_of_another_version_is_not_compared(store).await;
    a_lapsed_claim_is_taken_over_and_its_zombie_refused(store).await;
    what_is_in_doubt_is_left_alone_and_then_resumed(store).await;
    what_is_asked_twice_is_answered_the_same(store).await;
    what_is_released_is_free_for_another_request(store).await;
    what_was_resumed_stays_bound_when_it_is_released(store).await;
    what_is_done_stays_done(store).await;
    an_extension_prolongs_the_lease(store).await;
    what_has_expired_is_as_if_it_never_was(store).await;
    keys_and_scopes_are_compared_byte_by_byte(store).await;
    together::of_many_at_once_one_has_it(store).await;
    together::of_many_at_once_one_takes_over(store).await;
    together::what_has_expired_is_reaped_and_nothing_else(store).await;
    together::unfinished_keys_are_listed_where_there_is_a_list(store).await;
    phases::all(store).await;
}

/// One who comes with a key, again and again.
struct Caller<'a> {
    store: &'a dyn Store,
    key: ScopedKey,
}

impl<'a> Caller<'a> {
    /// With a key that nobody has.
    fn new(store: &'a dyn Store) -> Self {
        let mut random = [0; 16];
        random.copy_from_slice(Token::random().as_bytes());
        let key = Scope::of([&b"conformance"[..], &random]).key(&Key::digest_of("key"));
        Self { store, key }
    }

    async fn asks(&self, fingerprint: Fingerprint, token: Token, lease: Duration) -> Answer {
        self.asks_for(fingerprint, token, lease, LONG).await
    }

    async fn asks_for(
        &self,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
        retention: Duration,
    ) -> Answer {
        let request = Request::new(&self.key, fingerprint, token, lease, retention);
        ok(self.store.claim(&request).await)
    }

    /// Gets it, as the claim of this epoch.
    async fn gets(&self, epoch: i64, lease: Duration) -> Fence {
        let token = Token::random();
        let answer = self.asks(ASKED, token, lease).await;
        assert_eq!(answer, Answer::Claimed(Fence::new(epoch, token)));
        Fence::new(epoch, token)
    }

    /// Is told that somebody else has it.
    async fn waits(&self, in_doubt: bool) -> Duration {
        match self.asks(ASKED, Token::random(), LONG).await {
            Answer::InFlight { remaining, unknown } if unknown == in_doubt => remaining,
            other => panic!("it is in flight, in doubt: {in_doubt}; it was answered {other:?}"),
        }
    }

    async fn completes(&self, fence: Fence, outcome: &'static [u8]) -> bool {
        let outcome = Bytes::from_static(outcome);
        ok(self.store.complete(&self.key, fence, &outcome, LONG).await)
    }

    async fn is_replayed(&self, outcome: &'static [u8]) {
        let answer = self.asks(ASKED, Token::random(), LONG).await;
        assert_eq!(answer, Answer::Done(Bytes::from_static(outcome)));
    }
}

fn ok<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {error}"),
    }
}

async fn what_is_done_is_replayed_byte_by_byte(store: &dyn Store) {
    let every_byte: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
    for outcome in [
        Bytes::new(),
        Bytes::from_static(b"{\"id\": 7}"),
        every_byte.into(),
    ] {
        let caller = Caller::new(store);
        let fence = caller.gets(1, LONG).await;
        let remaining = caller.waits(false).await;
        assert!(
            remaining <= LONG,
            "more of the lease is left than there was: {remaining:?}"
        );
        let done = store.complete(&caller.key, fence, &outcome, LONG).await;
        assert!(ok(done), "what is held is completed");
        for _ in 0..2 {
            let answer = caller.asks(ASKED, Token::random(), LONG).await;
            assert!(
                answer == Answer::Done(outcome.clone()),
                "other bytes are replayed"
            );
        }
    }
}

async fn a_mismatch_is_said_before_anything_else(store: &dyn Store) {
    let caller = Caller::new(store);
    let fence = caller.gets(1, SHORT).await;
    let in_flight = caller.asks(OTHER, Token::random(), LONG).await;
    assert_eq!(in_flight, Answer::Mismatch, "while the first is in flight");
    sleep(OVER).await;
    let lapsed = caller.asks(OTHER, Token::random(), LONG).await;
    assert_eq!(lapsed, Answer::Mismatch, "when its lease is over");
    assert!(caller.completes(fence, b"late, and still his").await);
    let done = caller.asks(OTHER, Token::random(), LONG).await;
    assert_eq!(done, Answer::Mismatch, "when it is done");
    caller.is_replayed(b"late, and still his").await;
}

async fn a_fingerprint_of_another_version_is_not_compared(store: &dyn Store) {
    let caller = Caller::new(store);
    let fence = caller.gets(1, SHORT).await;
    let answer = caller.asks(NEWER, Token::random(), LONG).await;
    assert!(matches!(answer, Answer::InFlight { .. }), "{answer:?}");
    assert!(caller.completes(fence, b"done").await);
    let answer = caller.asks(NEWER, Token::random(), LONG).await;
    assert_eq!(answer, Answer::Done(Bytes::from_static(b"done")));
    let caller = Caller::new(store);
    caller.gets(1, SHORT).await;
    sleep(OVER).await;
    let token = Token::random();
    let answer = caller.asks(NEWER, token, LONG).await;
    assert_eq!(
        answer,
        Answer::Claimed(Fence::new(2, token)),
        "it is taken over"
    );
}

async fn a_lapsed_claim_is_taken_over_and_its_zombie_refused(store: &dyn Store) {
    let caller = Caller::new(store);
    let zombie = caller.gets(1, SHORT).await;
    sleep(OVER).await;
    let owner = caller.gets(2, LONG).await;
    let key = &caller.key;
    assert!(
        !caller.completes(zombie, b"late").await,
        "a zombie completes"
    );
    assert!(
        !ok(store.extend(key, zombie, LONG, LONG).await),
        "a zombie extends"
    );
    assert!(!ok(store.release(key, zombie).await), "a zombie releases");
    assert!(!ok(store.doubt(key, zombie).await), "a zombie doubts");
    for half in [
        Fence::new(owner.epoch(), *zombie.token()),
        Fence::new(zombie.epoch(), *owner.token()),
    ] {
        assert!(
            !caller.completes(half, b"half").await,
            "half a fence completes"
        );
    }
    caller.waits(false).await;
    assert!(caller.completes(owner, b"the owner's").await);
    assert!(
        !caller.completes(zombie, b"late").await,
        "a zombie overwrites"
    );
    assert!(
        !ok(store.release(key, zombie).await),
        "a zombie removes what is done"
    );
    caller.is_replayed(b"the owner's").await;
}

async fn what_is_in_doubt_is_left_alone_and_then_resumed(store: &dyn Store) {
    let caller = Caller::new(store);
    let first = caller.gets(1, SHORT).await;
    assert!(
        ok(store.doubt(&caller.key, first).await),
        "what is held is doubted"
    );
    caller.waits(true).await;
    sleep(OVER).await;
    let second = caller.gets(2, LONG).await;
    assert!(!caller.completes(first, b"late").await);
    assert!(caller.completes(second, b"the second's").await);
    caller.is_replayed(b"the second's").await;
}

async fn what_is_asked_twice_is_answered_the_same(store: &dyn Store) {
    let caller = Caller::new(store);
    let fence = caller.gets(1, LONG).await;
    let again = caller.asks(ASKED, *fence.token(), LONG).await;
    assert_eq!(
        again,
        Answer::Claimed(fence),
        "a claim under the same token"
    );
    for _ in 0..2 {
        assert!(ok(store.extend(&caller.key, fence, LONG, LONG).await));
    }
    for _ in 0..2 {
        assert!(
            caller.completes(fence, b"done").await,
            "an answer may be lost"
        );
    }
    caller.is_replayed(b"done").await;
}

async fn what_is_released_is_free_for_another_request(store: &dyn Store) {
    let caller = Caller::new(store);
    let first = caller.gets(1, LONG).await;
    assert!(ok(store.release(&caller.key, first).await));
    assert!(
        !ok(store.release(&caller.key, first).await),
        "there is nothing left"
    );
    let token = Token::random();
    let answer = caller.asks(OTHER, token, LONG).await;
    let second = Fence::new(1, token);
    assert_eq!(answer, Answer::Claimed(second), "nothing is resumed");
    assert!(
        !caller.completes(first, b"late").await,
        "the epoch alone is not the fence"
    );
    assert!(caller.completes(second, b"done").await);
}

async fn what_was_resumed_stays_bound_when_it_is_released(store: &dyn Store) {
    let caller = Caller::new(store);
    caller.gets(1, SHORT).await;
    sleep(OVER).await;
    let second = caller.gets(2, LONG).await;
    assert!(ok(store.release(&caller.key, second).await));
    let other = caller.asks(OTHER, Token::random(), LONG).await;
    assert_eq!(other, Answer::Mismatch, "the first may have had its effect");
    caller.gets(3, LONG).await;
}

async fn what_is_done_stays_done(store: &dyn Store) {
    let caller = Caller::new(store);
    let fence = caller.gets(1, SHORT).await;
    assert!(caller.completes(fence, b"done").await);
    let key = &caller.key;
    assert!(
        !ok(store.release(key, fence).await),
        "what is done is released"
    );
    assert!(
        !ok(store.doubt(key, fence).await),
        "what is done is doubted"
    );
    assert!(
        !ok(store.extend(key, fence, LONG, LONG).await),
        "what is done is extended"
    );
    sleep(OVER).await;
    caller.is_replayed(b"done").await;
}

async fn an_extension_prolongs_the_lease(store: &dyn Store) {
    let caller = Caller::new(store);
    let fence = caller.gets(1, SHORT).await;
    assert!(ok(store.extend(&caller.key, fence, LONG, LONG).await));
    sleep(OVER).await;
    assert!(caller.waits(false).await > SHORT, "it holds on");
    assert!(caller.completes(fence, b"done").await);
}

async fn what_has_expired_is_as_if_it_never_was(store: &dyn Store) {
    for done in [true, false] {
        let caller = Caller::new(store);
        let token = Token::random();
        let lease = SHORT / 2;
        let answer = caller.asks_for(ASKED, token, lease, lease).await;
        let fence = Fence::new(1, token);
        assert_eq!(answer, Answer::Claimed(fence));
        if done {
            let outcome = Bytes::from_static(b"done");
            let done = store.complete(&caller.key, fence, &outcome, lease).await;
            assert!(ok(done));
        }
        sleep(OVER).await;
        let token = Token::random();
        let answer = caller.asks(OTHER, token, LONG).await;
        assert_eq!(
            answer,
            Answer::Claimed(Fence::new(1, token)),
            "done: {done}"
        );
    }
}

async fn keys_and_scopes_are_compared_byte_by_byte(store: &dyn Store) {
    let longest = [0xff; Key::LONGEST];
    let keys: [&[u8]; 15] = [
        b"abc",
        b"Abc",
        b"abc ",
        b"abc\0",
        b"\0",
        b"\0\0",
        b"ab",
        b"{abc}",
        b"}",
        b"%7D",
        b"'; DROP TABLE buttress_idempotency; --",
        b"\xc3\xa4",
        b"\xff\xfe",
        &longest,
        &longest[1..],
    ];
    let unique = *Token::random().as_bytes();
    for scope in ["one", "other"] {
        let scope = Scope::of([scope.as_bytes(), &unique]);
        for key in keys {
            let key = match Key::new(key) {
                Ok(key) => scope.key(&key),
                Err(error) => panic!("{error}"),
            };
            let caller = Caller { store, key };
            let fence = caller.gets(1, LONG).await;
            assert!(caller.completes(fence, b"done").await);
            caller.is_replayed(b"done").await;
        }
    }
}
