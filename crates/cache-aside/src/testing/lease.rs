//! What every second level must do about leases.

use std::{sync::Arc, time::Duration};

use buttress_store::Deadline;

use super::store::{Judged, LONG, answered, at, soon};
use crate::store::{FillToken, Leased, LoadClaim};

/// Short enough to be waited for, and long enough that nothing ends before it was looked at.
const SHORT: Duration = Duration::from_millis(300);

impl Judged {
    async fn lease(&self, key: &[u8], claim: &LoadClaim, term: Duration) -> Leased {
        answered(self.0.lease(&at(key), claim, term, soon()).await)
    }

    async fn let_go(&self, key: &[u8], claim: &LoadClaim, open: Option<Duration>) {
        answered(self.0.let_go(&at(key), claim, open, soon()).await);
    }

    async fn claim(&self, key: &[u8]) -> LoadClaim {
        LoadClaim::new(self.missed(key).await.token)
    }
}

pub(super) async fn all(it: &Judged) {
    a_lease_is_one_holders_until_he_lets_go(it).await;
    a_lease_ends_with_its_term_and_is_taken_for_another(it).await;
    a_lease_ends_with_its_token(it).await;
    a_lease_that_was_opened_is_nobodys(it).await;
    a_lease_decides_nothing_about_fills(it).await;
    of_many_who_ask_at_once_one_gets_the_lease(it).await;
}

async fn a_lease_is_one_holders_until_he_lets_go(it: &Judged) {
    let key = b"lease";
    let (one, other) = (it.claim(key).await, it.claim(key).await);
    assert_eq!(one.token(), other.token());
    assert_eq!(it.lease(key, &one, LONG).await, Leased::Ours);
    match it.lease(key, &other, LONG).await {
        Leased::Taken { left } => assert!(!left.is_zero() && left <= LONG, "{left:?}"),
        leased => panic!("it is another's: {leased:?}"),
    }
    assert_eq!(it.lease(key, &one, LONG).await, Leased::Ours, "once more");
    it.let_go(key, &other, None).await;
    assert!(
        matches!(it.lease(key, &other, LONG).await, Leased::Taken { .. }),
        "it was not his to give"
    );
    let _elsewhere = it.claim(b"lease too").await;
    let elsewhere = it.claim(b"lease too").await;
    assert_eq!(
        it.lease(b"lease too", &elsewhere, LONG).await,
        Leased::Ours,
        "of another key"
    );
    it.let_go(key, &one, None).await;
    assert_eq!(it.lease(key, &other, LONG).await, Leased::Ours);
}

async fn a_lease_ends_with_its_term_and_is_taken_for_another(it: &Judged) {
    let key = b"lease term";
    let (one, other) = (it.claim(key).await, it.claim(key).await);
    assert_eq!(it.lease(key, &one, SHORT).await, Leased::Ours);
    let deadline = Deadline::after(LONG);
    loop {
        match it.lease(key, &other, LONG).await {
            Leased::Ours => break,
            Leased::Taken { left } => {
                assert!(left <= SHORT, "{left:?}");
                tokio::time::sleep(left.min(deadline.remaining())).await;
            }
            leased => panic!("{leased:?}"),
        }
    }
    assert!(
        matches!(it.lease(key, &one, SHORT).await, Leased::Taken { .. }),
        "his term is over"
    );
    // He who comes back does not end what is another's.
    it.let_go(key, &one, None).await;
    assert!(matches!(
        it.lease(key, &one, SHORT).await,
        Leased::Taken { .. }
    ));
}

async fn a_lease_ends_with_its_token(it: &Judged) {
    for change in 0..4 {
        let key = &[b"lease token ".as_slice(), &[b'0' + change]].concat()[..];
        let one = it.claim(key).await;
        assert_eq!(it.lease(key, &one, LONG).await, Leased::Ours);
        match change {
            0 => answered(it.0.invalidate(&[at(key)], soon()).await),
            1 => answered(it.0.expire(&[at(key)], soon()).await),
            2 => drop(answered(it.0.take_over(&at(key), soon()).await)),
            _ => assert!(it.fill(key, one.token(), b"loaded").await),
        }
        assert_eq!(it.lease(key, &one, LONG).await, Leased::Ended, "{change}");
        let claims = answered(it.0.claim(&[at(key)], soon()).await);
        let next = LoadClaim::new(claims[0].token);
        assert_eq!(
            it.lease(key, &next, LONG).await,
            Leased::Ours,
            "{change}: nobody waits for a load of before"
        );
        it.let_go(key, &one, None).await;
        let third = LoadClaim::new(claims[0].token);
        assert!(
            matches!(it.lease(key, &third, LONG).await, Leased::Taken { .. }),
            "{change}"
        );
    }
    let made_up = LoadClaim::new(FillToken::random());
    assert_eq!(it.lease(b"never", &made_up, LONG).await, Leased::Ended);
}

async fn a_lease_that_was_opened_is_nobodys(it: &Judged) {
    let key = b"lease opened";
    let (one, other) = (it.claim(key).await, it.claim(key).await);
    assert_eq!(it.lease(key, &one, LONG).await, Leased::Ours);
    it.let_go(key, &other, Some(LONG)).await;
    assert!(
        matches!(it.lease(key, &other, LONG).await, Leased::Taken { .. }),
        "it was not his to open"
    );
    it.let_go(key, &one, Some(LONG)).await;
    assert_eq!(it.lease(key, &other, LONG).await, Leased::Open);
    assert_eq!(it.lease(key, &one, LONG).await, Leased::Open);
    // Until the token ends, or the time is over.
    assert!(it.fill(key, one.token(), b"after all").await);
    let claims = answered(it.0.claim(&[at(key)], soon()).await);
    let next = LoadClaim::new(claims[0].token);
    assert_eq!(it.lease(key, &next, LONG).await, Leased::Ours);
    it.let_go(key, &next, Some(SHORT)).await;
    while it.lease(key, &next, LONG).await != Leased::Ours {
        tokio::time::sleep(SHORT / 10).await;
    }
}

async fn a_lease_decides_nothing_about_fills(it: &Judged) {
    let key = b"lease and fill";
    let (one, other) = (it.claim(key).await, it.claim(key).await);
    assert_eq!(it.lease(key, &one, LONG).await, Leased::Ours);
    assert!(
        it.fill(key, other.token(), b"without it").await,
        "it began while the token stood"
    );
    assert!(!it.fill(key, one.token(), b"with it").await);
    assert_eq!(it.held(key).await.bytes, b"without it");
}

async fn of_many_who_ask_at_once_one_gets_the_lease(it: &Judged) {
    let key = b"lease herd";
    let tasks: Vec<_> = (0..16_u8)
        .map(|_| {
            let store = Arc::clone(&it.0);
            tokio::spawn(async move {
                let it = Judged(store);
                let claim = it.claim(key).await;
                u8::from(it.lease(key, &claim, LONG).await == Leased::Ours)
            })
        })
        .collect();
    let mut ours = 0;
    for task in tasks {
        ours += task.await.expect("no task of this suite fails otherwise");
    }
    assert_eq!(ours, 1);
}
