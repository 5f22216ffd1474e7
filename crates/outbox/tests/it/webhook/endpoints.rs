//! One topic, several endpoints.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use buttress_core::clock::{Clock, ManualHand};
use buttress_outbox::{
    Delivery, Message, PublishError, PublishErrorKind, Publisher,
    publisher::http::{Disabled, EndpointEvent, Endpoints, Types},
};
use buttress_testkit::cancel_sweep::CancelSweep;

use super::{
    endpoint::{Endpoint, Reply},
    stand::{NOW, at, delivery, publisher},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An endpoint whose answer can be changed.
struct Changing {
    endpoint: Endpoint,
    status: Arc<AtomicU16>,
}

impl Changing {
    async fn start(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let shared = Arc::clone(&status);
        let reply = move |_: &_| Reply::status(shared.load(Ordering::SeqCst));
        let endpoint = Endpoint::start(reply).await;
        Self { endpoint, status }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn ids(&self) -> Vec<String> {
        let received = self.endpoint.received();
        let ids = received.iter().map(|it| it.field("webhook-id").unwrap());
        ids.map(str::to_owned).collect()
    }
}

type Heard = Arc<Mutex<Vec<(String, Disabled)>>>;

fn set() -> (Endpoints, ManualHand, Heard) {
    let (clock, hand) = Clock::manual();
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    let endpoints = Endpoints::observed(3 * DAY, clock, move |event: &EndpointEvent| {
        if let EndpointEvent::Disabled { name, why, .. } = event {
            hears.lock().unwrap().push((name.to_string(), *why));
        }
    });
    (endpoints, hand, heard)
}

fn subscribe(endpoints: &Endpoints, name: &str, endpoint: &Changing) {
    let publisher = publisher(&endpoint.endpoint.url());
    endpoints.subscribe(name, Types::all(), publisher).unwrap();
}

async fn publish(endpoints: &Endpoints, id: &str) -> Result<(), PublishError> {
    let mut answers = endpoints.publish(&[delivery(id)]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

async fn kind(endpoints: &Endpoints, id: &str) -> Option<PublishErrorKind> {
    publish(endpoints, id).await.err().map(|error| error.kind())
}

#[tokio::test]
async fn each_subscriber_gets_the_types_he_wants() {
    let (orders, invoices) = (Changing::start(200).await, Changing::start(200).await);
    let (endpoints, ..) = set();
    for (name, pattern, endpoint) in [("o", "order.*", &orders), ("i", "invoice.paid", &invoices)] {
        let publisher = publisher(&endpoint.endpoint.url());
        let types = Types::of([pattern]).unwrap();
        endpoints.subscribe(name, types, publisher).unwrap();
    }
    let batch: Vec<_> = ["order.placed", "invoice.paid", "parcel.sent"]
        .into_iter()
        .map(|it| Message::builder("events", "/shop", it).id(it.replace('.', "-")))
        .map(|it| Delivery::new(it.build().unwrap(), 1, 1, at(NOW)))
        .collect();
    assert_eq!(endpoints.publish(&batch).await, [Ok(()), Ok(()), Ok(())]);
    assert_eq!(orders.ids(), ["order-placed"]);
    assert_eq!(invoices.ids(), ["invoice-paid"]);
}

#[tokio::test]
async fn one_that_is_down_is_paused_and_the_others_get_each_message_once() {
    let (good, bad) = (Changing::start(200).await, Changing::start(503).await);
    let (endpoints, hand, _) = set();
    subscribe(&endpoints, "good", &good);
    subscribe(&endpoints, "bad", &bad);
    let error = publish(&endpoints, "m-1").await.unwrap_err();
    // It costs the message nothing, and the topic is not paused for it.
    assert_eq!(error.kind(), PublishErrorKind::Unknown);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    // In its pause it is not asked.
    assert_eq!(
        kind(&endpoints, "m-2").await,
        Some(PublishErrorKind::Unknown)
    );
    assert_eq!(
        kind(&endpoints, "m-1").await,
        Some(PublishErrorKind::Unknown)
    );
    assert_eq!(
        (good.ids(), bad.ids().len()),
        (vec!["m-1".into(), "m-2".into()], 1)
    );
    bad.answer(200);
    hand.advance(Duration::from_secs(1));
    for id in ["m-1", "m-2", "m-3"] {
        assert_eq!(kind(&endpoints, id).await, None, "{id}");
    }
    assert_eq!(good.ids(), ["m-1", "m-2", "m-3"]);
    assert_eq!(bad.ids(), ["m-1", "m-1", "m-2", "m-3"]);
}

#[tokio::test]
async fn one_that_is_gone_is_disabled_and_that_is_told_once() {
    let (good, gone) = (Changing::start(200).await, Changing::start(410).await);
    let (endpoints, _, heard) = set();
    subscribe(&endpoints, "good", &good);
    subscribe(&endpoints, "gone", &gone);
    for id in ["m-1", "m-2"] {
        assert_eq!(kind(&endpoints, id).await, None);
    }
    assert_eq!(gone.ids(), ["m-1"]);
    assert_eq!(endpoints.is_disabled("gone"), Some(true));
    assert_eq!(
        *heard.lock().unwrap(),
        [("gone".to_owned(), Disabled::Gone)]
    );
    gone.answer(200);
    assert!(endpoints.enable("gone"));
    assert_eq!(kind(&endpoints, "m-3").await, None);
    assert_eq!(gone.ids(), ["m-1", "m-3"]);
    // By hand it is nobody's news.
    assert!(endpoints.disable("gone"));
    assert_eq!(heard.lock().unwrap().len(), 1);
    assert_eq!(endpoints.is_disabled("nobody"), None);
    assert!(!endpoints.enable("nobody") && !endpoints.disable("nobody"));
}

#[tokio::test]
async fn one_that_is_down_for_days_is_disabled_and_holds_nothing_up_any_more() {
    let (good, bad) = (Changing::start(200).await, Changing::start(500).await);
    let (endpoints, hand, heard) = set();
    subscribe(&endpoints, "good", &good);
    subscribe(&endpoints, "bad", &bad);
    assert!(publish(&endpoints, "m-1").await.is_err());
    hand.advance(DAY);
    assert!(publish(&endpoints, "m-1").await.is_err());
    hand.advance(2 * DAY);
    assert_eq!(kind(&endpoints, "m-1").await, None);
    let expected = [("bad".to_owned(), Disabled::DownForTooLong)];
    assert_eq!(*heard.lock().unwrap(), expected);
    assert_eq!(good.ids(), ["m-1"]);
}

#[tokio::test]
async fn a_refusal_counts_unless_somebody_may_still_take_it() {
    let (refuses, other) = (Changing::start(400).await, Changing::start(200).await);
    let (endpoints, ..) = set();
    subscribe(&endpoints, "refuses", &refuses);
    subscribe(&endpoints, "other", &other);
    assert_eq!(
        kind(&endpoints, "m-1").await,
        Some(PublishErrorKind::Refused)
    );
    other.answer(503);
    assert_eq!(
        kind(&endpoints, "m-2").await,
        Some(PublishErrorKind::Unknown)
    );
    assert!(endpoints.unsubscribe("other") && !endpoints.unsubscribe("other"));
    assert_eq!(
        kind(&endpoints, "m-2").await,
        Some(PublishErrorKind::Refused)
    );
    assert!(endpoints.unsubscribe("refuses"));
    assert_eq!(kind(&endpoints, "m-2").await, None);
    assert_eq!(other.ids(), ["m-1", "m-2"]);
}

#[tokio::test]
async fn a_name_that_is_used_again_is_another_endpoint() {
    let (first, second) = (Changing::start(200).await, Changing::start(200).await);
    let down = Changing::start(503).await;
    let (endpoints, ..) = set();
    subscribe(&endpoints, "a", &first);
    subscribe(&endpoints, "down", &down);
    assert!(publish(&endpoints, "m-1").await.is_err());
    subscribe(&endpoints, "a", &second);
    assert!(publish(&endpoints, "m-1").await.is_err());
    assert_eq!((first.ids().len(), second.ids().len()), (1, 1));
    for n in 0..62 {
        subscribe(&endpoints, &n.to_string(), &first);
    }
    let publisher = publisher(&first.endpoint.url());
    let refused = endpoints.subscribe("one more", Types::all(), publisher);
    assert_eq!(refused.unwrap_err().field(), "endpoints");
}

#[tokio::test]
async fn dropped_at_any_await_no_endpoint_misses_a_message() {
    let _tally = buttress_testkit::tally::suite("X1");
    let (one, two) = (Changing::start(200).await, Changing::start(200).await);
    let (endpoints, ..) = set();
    subscribe(&endpoints, "one", &one);
    subscribe(&endpoints, "two", &two);
    let swept = CancelSweep::default()
        .confirmed(3)
        .run(
            async || publish(&endpoints, "m-1").await,
            async |point| assert_eq!(publish(&endpoints, "m-2").await, Ok(()), "{point}"),
        )
        .await;
    assert!(swept.points > 0);
    assert_eq!(swept.output, Ok(()));
    let count = |endpoint: &Changing| endpoint.ids().iter().filter(|it| *it == "m-2").count();
    assert!(count(&one) >= 1 && count(&one) == count(&two));
}
