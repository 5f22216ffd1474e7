//! What is kept of a request, and what is not.

use std::sync::{Arc, Mutex};

use buttress_idempotency::{
    Event, EventKind, Idempotency, NotKept, Policy, ScopedKey,
    store::MemoryStore,
    tower::{KeptRequests, Seal},
};
use buttress_testkit::eventually;
use http::header::AUTHORIZATION;
use tokio::time::advance;
use tower::Layer as _;

use super::stand::{Shop, ask, asked, kept, plain};
use crate::{
    http::stand::answer,
    stand::{OnSqlite, SECOND},
};

/// Not a cipher: it shows when it is used, and under which key.
struct Rotates(u8);

impl Seal for Rotates {
    fn seal(&self, key: &ScopedKey, mut open: Vec<u8>) -> Option<Vec<u8>> {
        for byte in &mut open {
            *byte = byte.wrapping_add(self.0);
        }
        open.push(key.as_bytes().iter().fold(0, |sum, it| sum ^ it));
        Some(open)
    }

    fn open(&self, key: &ScopedKey, sealed: &[u8]) -> Option<Vec<u8>> {
        let (mark, sealed) = sealed.split_last()?;
        let fits = *mark == key.as_bytes().iter().fold(0, |sum, it| sum ^ it);
        fits.then(|| sealed.iter().map(|it| it.wrapping_sub(self.0)).collect())
    }
}

/// No data key is at hand.
struct Never;

impl Seal for Never {
    fn seal(&self, _: &ScopedKey, _: Vec<u8>) -> Option<Vec<u8>> {
        None
    }

    fn open(&self, _: &ScopedKey, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_is_done_and_said_and_not_made_again() {
    for (reason, kept) in [
        (NotKept::Unwanted, kept("shop").only_if(|_| false)),
        (
            NotKept::Unwanted,
            kept("shop").caller(|_| None, |_, _| true),
        ),
        (NotKept::Unsealed, kept("shop").sealed(Never)),
        (NotKept::TooLarge, kept("shop")),
    ] {
        let said = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&said);
        // The body fits, and not with its head.
        let policy = Policy::builder().longest_request(64).build().unwrap();
        let idempotency = Idempotency::builder(MemoryStore::new())
            .policy(policy)
            .observer(move |event: &Event| note.lock().unwrap().push(event.kind))
            .build();
        let layer = plain(idempotency).keep_requests(kept).unwrap();
        let shop = Shop::default();
        let service = layer.layer(shop.service());
        let body = format!("{{\"item\": \"{}\"}}", "x".repeat(40));
        let first = ask(service.clone(), asked("one", &body)).await;
        assert_eq!((first.status, shop.effects()), (500, [1, 0]), "it is done");
        let not_kept =
            |it: &EventKind| matches!(it, EventKind::NotKept { reason: it, .. } if *it == reason);
        assert_eq!(
            said.lock()
                .unwrap()
                .iter()
                .filter(|it| not_kept(it))
                .count(),
            1
        );
        advance(300 * SECOND).await;
        let mut completer = layer.completer(service.clone()).unwrap();
        assert_eq!(completer.run_once().await.unwrap(), Default::default());
        // Its client may come, as ever.
        assert_eq!(ask(service, asked("one", &body)).await.status, 500);
    }
}

#[test]
fn a_driver_has_a_name() {
    for wrong in ["", "two words", "\u{e4}", &"x".repeat(65)] {
        let refused = KeptRequests::new(wrong.to_owned()).unwrap_err();
        assert_eq!(refused.field(), "driver");
    }
    assert!(KeptRequests::new("x".repeat(64)).is_ok());
}

/// The bytes of all requests that are kept.
async fn at_rest(on: &OnSqlite) -> Vec<Vec<u8>> {
    let requests = "SELECT request FROM buttress_idempotency WHERE request IS NOT NULL";
    let requests = sqlx::query_scalar(requests).fetch_all(on.writer.pool());
    requests.await.unwrap()
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|it| it == part.as_bytes())
}

#[tokio::test]
async fn what_is_at_rest_is_what_was_chosen_and_gone_when_the_key_is_completed_or_released() {
    let on = OnSqlite::start().await;
    let secret = || {
        let mut request = asked("one", "{\"card\": 4242}");
        for name in ["authorization", "cookie", "proxy-authorization", "x-token"] {
            request
                .headers_mut()
                .insert(name, "secret".parse().unwrap());
        }
        request
    };
    for status in [200, 422, 500] {
        let idempotency = Idempotency::new(on.store.clone());
        let layer = plain(idempotency).keep_requests(kept("shop")).unwrap();
        let service = layer.layer(Shop::default().answering(move |_| answer(status, "")));
        let mut request = secret();
        let key = format!("status {status}").parse().unwrap();
        request.headers_mut().insert("idempotency-key", key);
        assert_eq!(ask(service, request).await.status, status);
        let rest = at_rest(&on).await;
        // Of one that is done, or whose client was told that it was not, nothing stays.
        assert_eq!(rest.len(), usize::from(status == 500), "{status}");
        for bytes in rest {
            assert!(holds(&bytes, "4242") && !holds(&bytes, "secret"));
        }
    }
    // Who names a header has it kept.
    let named = kept("shop").headers([AUTHORIZATION]);
    let layer = plain(Idempotency::new(on.store.clone()));
    let layer = layer.keep_requests(named).unwrap();
    ask(layer.layer(Shop::default().service()), secret()).await;
    assert!(at_rest(&on).await.iter().any(|it| holds(it, "secret")));
}

#[tokio::test]
async fn what_is_sealed_shows_nothing_at_rest_and_opens_under_its_own_key_alone() {
    let on = OnSqlite::start().await;
    let layer = |kept: KeptRequests| {
        let lease = buttress_store::LeaseTerms::new(SECOND / 5).unwrap();
        let policy = Policy::builder().lease(lease.with_ceiling(1).unwrap());
        let builder = Idempotency::builder(on.store.clone()).policy(policy.build().unwrap());
        plain(builder.build()).keep_requests(kept).unwrap()
    };
    let sealed = layer(kept("shop").sealed(Rotates(7)));
    let shop = Shop::default();
    let service = sealed.layer(shop.service());
    for name in ["one", "two"] {
        let request = asked(name, "{\"card\": 4242}");
        assert_eq!(ask(service.clone(), request).await.status, 500);
    }
    for bytes in at_rest(&on).await {
        assert!(!holds(&bytes, "4242") && !holds(&bytes, "ann"));
    }
    // Somebody who writes into the table puts the one in the other's place.
    let swap = "UPDATE buttress_idempotency SET request = (
        SELECT request FROM buttress_idempotency ORDER BY id LIMIT 1)";
    sqlx::query(swap).execute(on.writer.pool()).await.unwrap();
    let run = async |kept: KeptRequests, drives: u32, wanted: (u32, u32)| {
        let layer = layer(kept);
        let completer = layer.completer(layer.layer(shop.service())).unwrap();
        let completer = completer.idle(std::time::Duration::ZERO).unwrap();
        let mut completer = completer.drives(drives).unwrap();
        completer = completer
            .every(std::time::Duration::from_millis(1))
            .unwrap();
        let (mut finished, mut parked) = (0, 0);
        eventually("it is driven", 60 * SECOND, async || {
            let driven = completer.run_once().await.unwrap();
            finished += driven.finished;
            parked += driven.parked;
            ((finished, parked) == wanted).then_some(())
        })
        .await;
    };
    // The one in its own place is finished, the other is parked.
    run(kept("shop").sealed(Rotates(7)), 3, (1, 1)).await;
    // A program without the seal does nothing, and parks it in the end.
    let request = asked("three", "{\"card\": 4242}");
    ask(service.clone(), request).await;
    let runs = shop.runs();
    run(kept("shop"), 2, (0, 1)).await;
    assert_eq!(shop.runs(), runs);
}

/// Whoever writes into the table could make any request of anybody's, if what is open were believed.
#[tokio::test(start_paused = true)]
async fn a_program_with_a_seal_makes_nothing_that_is_open() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let open = plain(idempotency.clone());
    let open = open.keep_requests(kept("shop")).unwrap();
    let shop = Shop::default();
    ask(open.layer(shop.service()), asked("one", "{}")).await;
    assert_eq!(shop.runs(), 1);
    advance(300 * SECOND).await;
    let sealed = plain(idempotency);
    let sealed = sealed.keep_requests(kept("shop").sealed(Rotates(7)));
    let sealed = sealed.unwrap();
    let completer = sealed.completer(sealed.layer(shop.service())).unwrap();
    let mut completer = completer.drives(2).unwrap();
    let mut parked = 0;
    for _ in 0..4 {
        let driven = completer.run_once().await.unwrap();
        assert_eq!(driven.finished, 0);
        parked += driven.parked;
        advance(300 * SECOND).await;
    }
    assert_eq!((parked, shop.runs()), (1, 1));
}
