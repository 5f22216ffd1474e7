//! What the server says, and what silence means: of the message, or of the stream.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use buttress_outbox::{
    Message,
    PublishErrorKind::{Down, Refused, RefusedForGood, Unknown},
    publisher::nats::{NatsPublisher, Subjects},
};
use buttress_testkit::eventually;

use super::stand::{PATIENCE, Stand, base, publish, publish_one, server};

#[tokio::test]
async fn what_is_too_long_is_refused_for_good_and_takes_no_neighbour_with_it() {
    let Some(stand) = Stand::shared_with(|config| config.max_message_size = 200_000).await else {
        return;
    };
    let publisher = stand.publisher("{topic}");
    let mut many = base();
    for number in 0..40 {
        many = many.header(format!("x-{number}"), "a".repeat(4000));
    }
    let messages = [
        base().key("1"),
        // More than the server takes of a client: 1 MiB with its headers.
        base().key("2").payload(vec![0; Message::LONGEST_PAYLOAD]),
        // More than the stream takes.
        base().key("3").payload(vec![0; 300_000]),
        // More than 64 KiB of headers.
        many.key("4"),
        base().key("5"),
    ];
    let answers = publish(&publisher, messages.map(|it| it.build().unwrap())).await;
    let kinds: Vec<_> = answers
        .into_iter()
        .map(|it| it.err().map(|error| error.kind()))
        .collect();
    let no = Some(RefusedForGood);
    assert_eq!(kinds, [None, no, no, no, None]);
    assert_eq!(stand.held().await, 2);
}

#[tokio::test]
async fn a_full_stream_is_down_and_a_full_subject_holds_up_only_its_own() {
    let full = |config: &mut Config| {
        config.max_messages = 2;
        config.discard = DiscardPolicy::New;
    };
    let Some(stand) = Stand::shared_with(full).await else {
        return;
    };
    let publisher = stand.publisher("{topic}");
    for expected in [Ok(()), Ok(()), Err(Down)] {
        assert_eq!(publish_one(&publisher, base()).await, expected);
    }
    let stand = Stand::shared_with(|config| {
        config.max_messages_per_subject = 1;
        config.discard = DiscardPolicy::New;
        config.discard_new_per_subject = true;
    });
    let stand = stand.await.unwrap();
    let publisher = stand.publisher("{key}");
    for (key, expected) in [("1", Ok(())), ("1", Err(Unknown)), ("2", Ok(()))] {
        assert_eq!(publish_one(&publisher, base().key(key)).await, expected);
    }
}

#[tokio::test]
async fn no_stream_is_an_outage_and_a_subject_that_it_does_not_take_is_poison() {
    let only = |config: &mut Config| {
        config.subjects = vec![format!("{}.acme.>", config.name)];
    };
    let Some(stand) = Stand::shared_with(only).await else {
        return;
    };
    let publisher = stand.publisher("{header:x-tenant}.{topic}");
    let tenants = ["acme", "evil", "acme"].map(|it| base().header("x-tenant", it));
    let answers = publish(&publisher, tenants.map(|it| it.build().unwrap())).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), Refused);
    // It takes none of the topic's: whoever set it up must look.
    let elsewhere = stand.publisher("elsewhere.{topic}");
    assert_eq!(publish_one(&elsewhere, base()).await, Err(Down));
    // Nobody has made this one.
    let subjects = Subjects::new(format!("{}-none.{{topic}}", stand.name)).unwrap();
    let name = format!("{}-none", stand.name);
    let none = NatsPublisher::new(stand.context.clone(), name, subjects).unwrap();
    assert_eq!(publish_one(&none, base()).await, Err(Down));
    // The topic makes no subject: none of its messages is to blame.
    let message = Message::builder("a..b", "/shop", "order.placed");
    assert_eq!(publish_one(&publisher, message).await, Err(Down));
}

#[tokio::test]
async fn another_streams_subject_is_taken_by_neither() {
    let (Some(stand), Some(other)) = (Stand::shared().await, Stand::shared().await) else {
        return;
    };
    let subjects = Subjects::new(format!("{}.{{topic}}", other.name)).unwrap();
    let publisher = NatsPublisher::new(stand.context.clone(), &stand.name, subjects).unwrap();
    assert_eq!(publish_one(&publisher, base()).await, Err(Down));
    assert_eq!((stand.held().await, other.held().await), (0, 0));
}

#[tokio::test]
async fn a_stream_that_answers_but_does_not_confirm_leaves_it_unknown() {
    let Some(stand) = Stand::shared_with(|config| config.no_ack = true).await else {
        return;
    };
    let publisher = stand.publisher("{topic}");
    // Silence for so long; then the stream has as long for its answer.
    let publisher = publisher.with_timeout(Duration::from_secs(4)).unwrap();
    assert_eq!(publish_one(&publisher, base()).await, Err(Unknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_or_is_dead_is_down_within_its_time_and_then_is_back() {
    let Some(server) = server() else { return };
    let stand = Stand::at(&server.url(), "SHOP", |_| {}).await;
    let publisher = stand.publisher("{topic}");
    let short = Duration::from_millis(200);
    let impatient = publisher.clone().with_timeout(short).unwrap();
    assert_eq!(publish_one(&publisher, base().id("1")).await, Ok(()));

    server.pause();
    assert_eq!(publish_one(&impatient, base().id("2")).await, Err(Down));
    server.resume();
    eventually("it goes on", PATIENCE, async || {
        publish_one(&publisher, base().id("2")).await.ok()
    })
    .await;

    server.kill();
    for _ in 0..2 {
        assert_eq!(publish_one(&publisher, base().id("3")).await, Err(Down));
    }
    server.restart().unwrap();
    eventually("it is back", PATIENCE, async || {
        publish_one(&publisher, base().id("3")).await.ok()
    })
    .await;
    // What was written before each end came again, and is there once.
    assert_eq!(stand.held().await, 3);
}

#[tokio::test]
async fn a_client_that_was_drained_is_down() {
    let Some(stand) = Stand::shared().await else {
        return;
    };
    let publisher = stand.publisher("{topic}");
    stand.client.drain().await.unwrap();
    eventually("it is closed", PATIENCE, async || {
        (publish_one(&publisher, base()).await == Err(Down)).then_some(())
    })
    .await;
}

#[test]
fn a_publisher_that_cannot_work_is_refused_when_it_is_made() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let Some(stand) = Stand::shared().await else {
            return;
        };
        let subjects = Subjects::new("a").unwrap();
        for name in ["", "a.b", "a b", "*", ">", "a\r\nb", "a/b"] {
            let refused = NatsPublisher::new(stand.context.clone(), name, subjects.clone());
            assert_eq!(refused.unwrap_err().field(), "stream", "{name:?}");
        }
        let publisher = stand.publisher("{topic}");
        for timeout in [Duration::ZERO, Duration::MAX] {
            let refused = publisher.clone().with_timeout(timeout);
            assert_eq!(refused.unwrap_err().field(), "timeout");
        }
        assert_eq!(
            publisher.longest_publish(),
            PATIENCE * 3 + Duration::from_secs(1)
        );
    });
}
