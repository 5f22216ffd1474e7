//! Cases of whose a kept request is, for how long, and how often it is driven.

use std::time::Duration;

use buttress_store::Token;
use tokio::time::sleep;

use super::{
    super::{ASKED, LONG, OTHER, OVER, SHORT, ok},
    BOTH, ONE, abandoned, abandoned_to, adopted_by, adoption, of,
};
use crate::store::{Answer, Postponement, Request, Store};

pub(super) async fn all(store: &dyn Store) {
    a_request_is_its_drivers_alone(store).await;
    what_is_released_is_driven_by_nobody(store).await;
    what_is_released_in_a_drive_waits_for_none(store).await;
    what_is_handed_back_is_driven(store).await;
    a_key_that_gets_on_is_counted_anew(store).await;
}

async fn a_request_is_its_drivers_alone(store: &dyn Store) {
    // Names that are not there yet, whatever the store holds.
    let [mine, yours] =
        [(); 2].map(|()| format!("{:x}", u64::from_be_bytes(half(Token::random()))));
    let (my, _) = abandoned_to(store, b"my", &mine).await;
    let (your, _) = abandoned_to(store, b"your", &yours).await;
    let (programs, _) = abandoned(store, b"program's").await;
    sleep(OVER).await;
    // Its client came again, and brought another driver; the first request is what is driven.
    let again = Request::new(&your.key, ASKED, Token::random(), SHORT, LONG);
    let again = again.with_payload(Some(b"again")).for_driver(&mine);
    let answer = ok(store.claim(&again).await);
    assert!(matches!(answer, Answer::Claimed(fence) if fence.epoch() == 2));
    sleep(OVER).await;
    for (driver, caller, request) in [(mine, &my, &b"my"[..]), (yours, &your, b"your")] {
        let found = adopted_by(store, &adoption(LONG, 10).for_driver(driver.into())).await;
        let requests: Vec<_> = found.iter().map(|it| &*it.request).collect();
        assert_eq!(requests, [request], "a driver has his own, and no more");
        assert!(of(&found, caller).is_some());
    }
    let found = adopted_by(store, &adoption(LONG, 10)).await;
    assert!(
        of(&found, &programs).is_some(),
        "and the program has its own"
    );
    assert!(of(&found, &my).is_none() && of(&found, &your).is_none());
}

/// Half of a token is as random as the whole.
fn half(token: Token) -> [u8; 8] {
    let mut half = [0; 8];
    half.copy_from_slice(&token.as_bytes()[..8]);
    half
}

async fn what_is_released_is_driven_by_nobody(store: &dyn Store) {
    let (phased, fence) = abandoned(store, b"phased").await;
    assert!(phased.passes(fence, 0, ONE).await);
    assert!(ok(store.release(&phased.key, fence).await));
    let (resumed, _) = abandoned(store, b"resumed").await;
    sleep(OVER).await;
    let second = resumed.gets(2, LONG).await;
    assert!(ok(store.release(&resumed.key, second).await));
    let found = adopted_by(store, &adoption(LONG, 10)).await;
    for caller in [&phased, &resumed] {
        assert!(of(&found, caller).is_none(), "who asked was told");
        assert!(!ok(store.unpark(&caller.key).await), "its request is gone");
        let other = caller.asks(OTHER, Token::random(), LONG).await;
        assert_eq!(other, Answer::Mismatch, "and the key stays bound");
    }
}

/// Its handler released it, and what drove it says that it waits for another drive.
async fn what_is_released_in_a_drive_waits_for_none(store: &dyn Store) {
    let (caller, _) = abandoned(store, b"POST /rides").await;
    sleep(OVER).await;
    let found = adopted_by(store, &adoption(LONG, 10)).await;
    let Some(adopted) = of(&found, &caller) else {
        panic!("nobody adopts what is abandoned")
    };
    assert!(ok(store.release(&caller.key, adopted.fence).await));
    let soon = Postponement::new(Some(Duration::ZERO), true, true);
    ok(store.postpone(&caller.key, adopted.fence, soon).await);
    let found = adopted_by(store, &adoption(LONG, 10)).await;
    assert!(of(&found, &caller).is_none(), "its request is gone");
    // Its client comes again, and is gone again.
    let again = Request::new(&caller.key, ASKED, Token::random(), SHORT, LONG);
    let answer = ok(store.claim(&again.with_payload(Some(b"again"))).await);
    assert!(matches!(answer, Answer::Claimed(fence) if fence.epoch() == 3));
    sleep(OVER).await;
    let found = adopted_by(store, &adoption(LONG, 10)).await;
    let adopted = of(&found, &caller).map(|it| (&*it.request, it.drive));
    let anew: (&[u8], u32) = (b"again", 1);
    assert_eq!(adopted, Some(anew), "drives of what was released count");
}

async fn what_is_handed_back_is_driven(store: &dyn Store) {
    let (phased, fence) = abandoned(store, b"phased").await;
    assert!(phased.passes(fence, 0, ONE).await);
    let (resumed, _) = abandoned(store, b"resumed").await;
    let (fresh, first) = abandoned(store, b"fresh").await;
    assert!(ok(store.hand_back(&phased.key, fence).await));
    assert!(ok(store.hand_back(&fresh.key, first).await));
    sleep(OVER).await;
    let second = resumed.gets(2, LONG).await;
    assert!(ok(store.hand_back(&resumed.key, second).await));
    let found = adopted_by(store, &adoption(LONG, 10)).await;
    for caller in [&phased, &resumed] {
        assert!(of(&found, caller).is_some(), "nobody was told how it ended");
    }
    assert!(of(&found, &fresh).is_none(), "it was never begun");
    fresh.gets(1, LONG).await;
}

async fn a_key_that_gets_on_is_counted_anew(store: &dyn Store) {
    let (caller, _) = abandoned(store, b"POST /rides").await;
    let mut passed: (usize, &'static [u8]) = (0, ONE);
    for _ in 0..2 {
        for drive in 1..=2 {
            sleep(OVER).await;
            let found = adopted_by(store, &adoption(SHORT, 2)).await;
            let Some(adopted) = of(&found, &caller) else {
                panic!("it has got on, and is not driven again")
            };
            assert_eq!(adopted.drive, drive);
            // The last drive, in which it gets on, and dies.
            if drive == 2 {
                assert!(caller.passes(adopted.fence, passed.0, passed.1).await);
            }
        }
        passed = (ONE.len(), BOTH);
    }
    // The next two get no further.
    for _ in 1..=2 {
        sleep(OVER).await;
        let found = adopted_by(store, &adoption(SHORT, 2)).await;
        let Some(adopted) = of(&found, &caller) else {
            panic!("it has got on, and is not driven again")
        };
        let counts = Postponement::new(Some(Duration::ZERO), true, false);
        assert!(ok(store.postpone(&caller.key, adopted.fence, counts).await) || adopted.drive == 2);
    }
    let last = ok(store.unfinished(Duration::ZERO, 10_000).await);
    let drives = last.iter().find(|it| it.key == caller.key);
    assert!(drives.is_none_or(|it| it.drives == 2));
}
