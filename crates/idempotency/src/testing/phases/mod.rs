//! Cases of phases that were passed, and of keys that nobody finishes.

mod drivers;

use std::time::Duration;

use buttress_store::{Fence, Token};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::{ASKED, Caller, LONG, OTHER, OVER, SHORT, ok};
use crate::store::{Adopted, Adoption, Answer, Checkpoint, Keeps, Postponement, Request, Store};

const ONE: &[u8] = b"ride 7\n";
const BOTH: &[u8] = b"ride 7\ncharge {\"id\":\"ch_1\"}\n";

impl Caller<'_> {
    async fn passes(&self, fence: Fence, before: usize, after: &'static [u8]) -> bool {
        let checkpoint = Checkpoint::new(before, Bytes::from_static(after));
        ok(self.store.checkpoint(&self.key, fence, &checkpoint).await)
    }

    /// Takes it over from somebody who had passed this.
    async fn resumes(&self, epoch: i64, lease: Duration, passed: &'static [u8]) -> Fence {
        let token = Token::random();
        let answer = self.asks(ASKED, token, lease).await;
        let fence = Fence::new(epoch, token);
        assert_eq!(answer, Answer::Resumed(fence, Bytes::from_static(passed)));
        fence
    }
}

pub(super) async fn all(store: &dyn Store) {
    if store.keeps() == Keeps::Nothing {
        return;
    }
    what_was_passed_is_told_to_the_next(store).await;
    a_zombies_phase_is_refused(store).await;
    a_phase_stands_on_what_was_passed(store).await;
    what_has_passed_a_phase_stays_bound_when_it_is_released(store).await;
    what_has_expired_has_passed_nothing(store).await;
    if store.keeps() != Keeps::Requests {
        return;
    }
    an_abandoned_key_is_adopted_by_one(store).await;
    who_works_or_is_done_is_not_adopted(store).await;
    a_key_is_parked_with_its_last_drive(store).await;
    what_is_postponed_waits(store).await;
    drivers::all(store).await;
}

async fn what_was_passed_is_told_to_the_next(store: &dyn Store) {
    let caller = Caller::new(store);
    let first = caller.gets(1, SHORT).await;
    assert!(caller.passes(first, 0, ONE).await, "what is held passes");
    assert!(
        caller.passes(first, 0, ONE).await,
        "an answer may be lost: the same is said twice"
    );
    assert!(caller.passes(first, ONE.len(), BOTH).await);
    let again = caller.asks(ASKED, *first.token(), SHORT).await;
    assert_eq!(again, Answer::Resumed(first, Bytes::from_static(BOTH)));
    sleep(OVER).await;
    let second = caller.resumes(2, SHORT, BOTH).await;
    sleep(OVER).await;
    let third = caller.resumes(3, LONG, BOTH).await;
    assert!(!caller.completes(second, b"late").await);
    assert!(caller.completes(third, b"done").await);
    caller.is_replayed(b"done").await;
    assert!(
        !caller.passes(third, BOTH.len(), BOTH).await,
        "what is done passes nothing"
    );
    caller.is_replayed(b"done").await;
}

async fn a_zombies_phase_is_refused(store: &dyn Store) {
    let caller = Caller::new(store);
    let zombie = caller.gets(1, SHORT).await;
    sleep(OVER).await;
    let owner = caller.gets(2, SHORT).await;
    assert!(!caller.passes(zombie, 0, ONE).await, "a zombie passes");
    for half in [
        Fence::new(owner.epoch(), *zombie.token()),
        Fence::new(zombie.epoch(), *owner.token()),
    ] {
        assert!(!caller.passes(half, 0, ONE).await, "half a fence passes");
    }
    assert!(caller.passes(owner, 0, ONE).await);
    assert!(
        !caller.passes(zombie, ONE.len(), BOTH).await,
        "a zombie passes"
    );
    sleep(OVER).await;
    caller.resumes(3, LONG, ONE).await;
}

async fn a_phase_stands_on_what_was_passed(store: &dyn Store) {
    let caller = Caller::new(store);
    let fence = caller.gets(1, SHORT).await;
    assert!(!caller.passes(fence, ONE.len(), BOTH).await, "on nothing");
    assert!(caller.passes(fence, 0, ONE).await);
    assert!(!caller.passes(fence, 0, BOTH).await, "beside what is there");
    assert!(!caller.passes(fence, 3, BOTH).await, "in the middle of it");
    assert!(caller.passes(fence, ONE.len(), BOTH).await);
    sleep(OVER).await;
    caller.resumes(2, LONG, BOTH).await;
}

async fn what_has_passed_a_phase_stays_bound_when_it_is_released(store: &dyn Store) {
    let caller = Caller::new(store);
    let fence = caller.gets(1, LONG).await;
    assert!(caller.passes(fence, 0, ONE).await);
    assert!(ok(store.release(&caller.key, fence).await));
    let other = caller.asks(OTHER, Token::random(), LONG).await;
    assert_eq!(other, Answer::Mismatch, "a phase has had its effect");
    caller.resumes(2, LONG, ONE).await;
}

async fn what_has_expired_has_passed_nothing(store: &dyn Store) {
    let caller = Caller::new(store);
    let (token, lease) = (Token::random(), SHORT / 2);
    let answer = caller.asks_for(ASKED, token, lease, lease).await;
    assert_eq!(answer, Answer::Claimed(Fence::new(1, token)));
    assert!(caller.passes(Fence::new(1, token), 0, ONE).await);
    sleep(OVER).await;
    caller.gets(1, LONG).await;
}

/// A key whose request is kept, for a lease that is over soon.
async fn abandoned<'a>(store: &'a dyn Store, request: &[u8]) -> (Caller<'a>, Fence) {
    abandoned_to(store, request, "").await
}

/// The same, for these completers.
async fn abandoned_to<'a>(
    store: &'a dyn Store,
    request: &[u8],
    driver: &str,
) -> (Caller<'a>, Fence) {
    let caller = Caller::new(store);
    let token = Token::random();
    let asked = Request::new(&caller.key, ASKED, token, SHORT, LONG);
    let asked = asked.with_payload(Some(request)).for_driver(driver);
    let answer = ok(store.claim(&asked).await);
    let fence = Fence::new(1, token);
    assert_eq!(answer, Answer::Claimed(fence));
    (caller, fence)
}

fn adoption(lease: Duration, last_drive: u32) -> Adoption {
    Adoption::new(Token::random(), [lease, LONG], Duration::ZERO, last_drive)
}

/// All that can be adopted. A store may hold anything: those of others are in it.
async fn adopted_by(store: &dyn Store, by: &Adoption) -> Vec<Adopted> {
    let mut all = Vec::new();
    while let Some(adopted) = ok(store.adopt(by).await) {
        all.push(adopted);
    }
    all
}

fn of<'a>(adopted: &'a [Adopted], caller: &Caller<'_>) -> Option<&'a Adopted> {
    let mut his = adopted.iter().filter(|it| it.key == caller.key);
    let first = his.next();
    assert!(his.next().is_none(), "a key is adopted twice");
    first
}

async fn an_abandoned_key_is_adopted_by_one(store: &dyn Store) {
    let (caller, first) = abandoned(store, b"POST /rides").await;
    assert!(caller.passes(first, 0, ONE).await);
    sleep(OVER).await;
    let idle = Adoption::new(Token::random(), [LONG; 2], LONG, 10);
    let found = adopted_by(store, &idle).await;
    assert!(of(&found, &caller).is_none(), "not idle for so long");
    let many = join_all((0..8).map(async |_| adopted_by(store, &adoption(LONG, 10)).await)).await;
    let many: Vec<Adopted> = many.into_iter().flatten().collect();
    let Some(adopted) = of(&many, &caller) else {
        panic!("nobody adopts what is abandoned")
    };
    assert_eq!((adopted.fence.epoch(), adopted.drive), (2, 1));
    assert_eq!(
        (&*adopted.request, &*adopted.progress),
        (&b"POST /rides"[..], ONE)
    );
    assert!(
        adopted.fingerprint.fits(&ASKED),
        "another request is adopted"
    );
    caller.waits(false).await;
    assert!(!caller.passes(first, ONE.len(), BOTH).await, "a zombie");
    assert!(caller.passes(adopted.fence, ONE.len(), BOTH).await);
    assert!(caller.completes(adopted.fence, b"done").await);
    caller.is_replayed(b"done").await;
}

async fn who_works_or_is_done_is_not_adopted(store: &dyn Store) {
    let (works, fence) = abandoned(store, b"works").await;
    assert!(ok(store.extend(&works.key, fence, LONG, LONG).await));
    let (done, fence) = abandoned(store, b"done").await;
    assert!(done.completes(fence, b"done").await);
    let (released, fence) = abandoned(store, b"released").await;
    assert!(ok(store.release(&released.key, fence).await));
    let unkept = Caller::new(store);
    unkept.gets(1, SHORT).await;
    let (taken, _) = abandoned(store, b"taken").await;
    let (expired, token) = (Caller::new(store), Token::random());
    let request = Request::new(&expired.key, ASKED, token, SHORT / 2, SHORT / 2);
    ok(store.claim(&request.with_payload(Some(b"expired"))).await);
    sleep(OVER).await;
    taken.gets(2, LONG).await;
    let found = adopted_by(store, &adoption(LONG, 10)).await;
    for (caller, why) in [
        (&works, "somebody works on it"),
        (&done, "it is done"),
        (&released, "it was given back"),
        (&unkept, "its request was not kept"),
        (&taken, "its client came again"),
        (&expired, "it has expired"),
    ] {
        assert!(of(&found, caller).is_none(), "{why}");
        assert!(
            !ok(store.unpark(&caller.key).await)
                || caller.key == works.key
                || caller.key == taken.key,
            "{why}, and it is unparked"
        );
    }
}

async fn a_key_is_parked_with_its_last_drive(store: &dyn Store) {
    let (caller, _) = abandoned(store, b"POST /rides").await;
    for drive in 1..=2 {
        sleep(OVER).await;
        let found = adopted_by(store, &adoption(SHORT, 2)).await;
        let adopted = of(&found, &caller).map(|it| it.drive);
        assert_eq!(adopted, Some(drive));
    }
    sleep(OVER).await;
    let found = adopted_by(store, &adoption(SHORT, 2)).await;
    assert!(of(&found, &caller).is_none(), "it is parked");
    let parked = async || {
        let listed = ok(store.unfinished(Duration::ZERO, 10_000).await);
        let his = listed.into_iter().find(|it| it.key == caller.key);
        his.map(|it| (it.drives, it.parked))
    };
    assert_eq!(parked().await, Some((2, true)), "and it is seen");
    assert!(ok(store.unpark(&caller.key).await));
    assert_eq!(parked().await, Some((0, false)));
    let found = adopted_by(store, &adoption(SHORT, 2)).await;
    assert_eq!(of(&found, &caller).map(|it| it.drive), Some(1));
}

async fn what_is_postponed_waits(store: &dyn Store) {
    let (caller, first) = abandoned(store, b"POST /rides").await;
    sleep(OVER).await;
    let found = adopted_by(store, &adoption(LONG, 2)).await;
    let Some(adopted) = of(&found, &caller) else {
        panic!("nobody adopts what is abandoned")
    };
    let fence = adopted.fence;
    let long = Postponement::new(Some(LONG), false, true);
    assert!(
        !ok(store.postpone(&caller.key, first, long).await),
        "a zombie postpones"
    );
    assert!(ok(store.postpone(&caller.key, fence, long).await));
    let found = adopted_by(store, &adoption(LONG, 2)).await;
    assert!(of(&found, &caller).is_none(), "it waits");
    // It was given back: its client may have it, and the completer afterwards.
    let third = caller.gets(3, LONG).await;
    let soon = Postponement::new(Some(Duration::ZERO), true, false);
    assert!(ok(store.postpone(&caller.key, third, soon).await));
    let found = adopted_by(store, &adoption(LONG, 2)).await;
    assert!(of(&found, &caller).is_none(), "it is held, though due");
    assert!(ok(store.hand_back(&caller.key, third).await));
    let found = adopted_by(store, &adoption(LONG, 2)).await;
    let drive = of(&found, &caller).map(|it| it.drive);
    assert_eq!(drive, Some(1), "the first drive did not count");
    let Some(adopted) = of(&found, &caller) else {
        return;
    };
    let parked = Postponement::new(None, true, true);
    assert!(ok(store.postpone(&caller.key, adopted.fence, parked).await));
    let found = adopted_by(store, &adoption(LONG, 2)).await;
    assert!(of(&found, &caller).is_none(), "it is parked");
}
