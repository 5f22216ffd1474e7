//! What an endpoint gets, and what is made of what it answers, over TCP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress_outbox::{
    Delivery, Message, PublishErrorKind, Publisher,
    publisher::http::{Blame, Form, HttpPublisher},
    webhook::Fields,
};
use buttress_testkit::{cancel_sweep::CancelSweep, proxy::Proxy};
use tokio::net::TcpListener;

use super::{
    endpoint::{Endpoint, Received, Reply},
    stand::{
        NOW, at, client, delivery, endpoint, kind, only, publish, publisher, publisher_of, signer,
        verifier,
    },
};

fn believed(request: &Received, secrets: &[u8], now: u64) -> bool {
    let fields = Fields::by(|name| request.field(name)).unwrap();
    let verified = verifier(secrets).verify_at(fields, &request.body, at(now));
    verified.is_ok()
}

#[tokio::test]
async fn a_message_arrives_signed_and_whole() {
    let receiver = Endpoint::answers(204).await;
    publish(&publisher(&receiver.url()), "m-1").await.unwrap();
    let [request] = &receiver.received()[..] else {
        panic!("one request")
    };
    assert_eq!(request.line, "POST /hooks?a=b HTTP/1.1");
    assert!(believed(request, &[1], NOW));
    assert!(!believed(request, &[2], NOW));
    let event: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(event["id"], "m-1");
    assert_eq!(event["data"], serde_json::json!({"order": 7}));
    let host = format!("127.0.0.1:{}", receiver.port());
    for (name, value) in [
        ("webhook-id", Some("m-1")),
        ("content-type", Some("application/cloudevents+json")),
        ("host", Some(host.as_str())),
        ("transfer-encoding", None),
        ("accept-encoding", None),
        ("cookie", None),
    ] {
        assert_eq!(request.field(name), value, "{name}");
    }
}

#[tokio::test]
async fn in_binary_form_the_payload_is_the_body() {
    let receiver = Endpoint::answers(200).await;
    let endpoint = endpoint(&receiver.url())
        .form(Form::Binary)
        .header("authorization", "Bearer canary");
    let publisher = publisher_of(endpoint);
    publish(&publisher, "m-1").await.unwrap();
    let [request] = &receiver.received()[..] else {
        panic!("one request")
    };
    assert_eq!(request.body, br#"{"order":7}"#);
    assert!(believed(request, &[1], NOW));
    for (name, value) in [
        ("ce-id", "m-1"),
        ("ce-type", "order.placed"),
        ("content-type", "application/json"),
        ("authorization", "Bearer canary"),
    ] {
        assert_eq!(request.field(name), Some(value), "{name}");
    }
    assert!(!format!("{publisher:#?}").contains("canary"));
}

#[tokio::test]
async fn wh_17_sent_again_it_has_its_id_another_time_and_another_signature() {
    let receiver = Endpoint::answers(500).await;
    let clock = Arc::new(AtomicU64::new(NOW));
    let hand = Arc::clone(&clock);
    let publisher = publisher(&receiver.url());
    let publisher = publisher.with_wall_clock(move || at(clock.load(Ordering::SeqCst)));
    for later in [0, 5] {
        hand.store(NOW + later, Ordering::SeqCst);
        assert!(publish(&publisher, "m-1").await.is_err());
    }
    let [first, second] = &receiver.received()[..] else {
        panic!("two requests")
    };
    assert_eq!(first.body, second.body);
    assert_eq!(first.field("webhook-id"), second.field("webhook-id"));
    for name in ["webhook-timestamp", "webhook-signature"] {
        assert_ne!(first.field(name), second.field(name), "{name}");
    }
    assert!(believed(second, &[1], NOW + 5));
}

#[tokio::test]
async fn secrets_are_changed_without_a_gap_in_every_clone() {
    let receiver = Endpoint::answers(200).await;
    let publisher = publisher(&receiver.url());
    let clone = publisher.clone();
    for secrets in [&[1][..], &[2, 1], &[2]] {
        publisher.set_signer(signer(secrets));
        publish(&clone, "m-1").await.unwrap();
    }
    let believed_by: Vec<_> = receiver
        .received()
        .iter()
        .map(|it| (believed(it, &[1], NOW), believed(it, &[2], NOW)))
        .collect();
    assert_eq!(believed_by, [(true, false), (true, true), (false, true)]);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let inside = Endpoint::answers(200).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", inside.url());
        let receiver = Endpoint::start(move |_| Reply::with(status, &location)).await;
        let found = kind(&publisher(&receiver.url())).await;
        assert_eq!(found, Some(PublishErrorKind::Down), "{status}");
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn statuses_are_words_about_the_message_or_the_endpoint() {
    for (status, expected) in [
        (200, None),
        (299, None),
        (400, Some(PublishErrorKind::Refused)),
        (404, Some(PublishErrorKind::Refused)),
        (429, Some(PublishErrorKind::Down)),
        (500, Some(PublishErrorKind::Down)),
        (503, Some(PublishErrorKind::Down)),
    ] {
        let receiver = Endpoint::answers(status).await;
        let found = kind(&publisher(&receiver.url())).await;
        assert_eq!(found, expected, "{status}");
    }
    let receiver = Endpoint::answers(500).await;
    let endpoint = endpoint(&receiver.url()).blame_for_500(Blame::Message);
    let found = kind(&publisher_of(endpoint)).await;
    assert_eq!(found, Some(PublishErrorKind::Refused));
}

#[tokio::test]
async fn a_retry_after_is_handed_on() {
    let receiver = Endpoint::start(|_| Reply::with(429, "retry-after: 90\r\n")).await;
    let error = publish(&publisher(&receiver.url()), "m-1")
        .await
        .unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(90)));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_asked_no_more_until_it_is_enabled() {
    let receiver = Endpoint::answers(410).await;
    let publisher = publisher(&receiver.url());
    let clone = publisher.clone();
    for _ in 0..3 {
        assert_eq!(kind(&publisher).await, Some(PublishErrorKind::Gone));
        assert!(clone.is_disabled());
    }
    assert_eq!(receiver.received().len(), 1);
    clone.enable();
    assert_eq!(kind(&publisher).await, Some(PublishErrorKind::Gone));
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_silent_endpoint_is_down_and_costs_its_time_only() {
    let receiver = Endpoint::start(|_| Reply::Silence).await;
    let patience = Duration::from_millis(200);
    let publisher = publisher_of(endpoint(&receiver.url()).timeout(patience));
    let sent = tokio::time::timeout(Duration::from_secs(5), kind(&publisher)).await;
    assert_eq!(sent, Ok(Some(PublishErrorKind::Down)));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_down_too() {
    let receiver = Endpoint::answers(200).await;
    let (proxy, url) = Proxy::before(&receiver.url()).await.unwrap();
    let patience = Duration::from_millis(200);
    let publisher = publisher_of(endpoint(&url).timeout(patience));
    assert_eq!(kind(&publisher).await, None);
    proxy.black_hole(buttress_testkit::proxy::Way::ToServer);
    let sent = tokio::time::timeout(Duration::from_secs(5), kind(&publisher)).await;
    assert_eq!(sent, Ok(Some(PublishErrorKind::Down)));
    proxy.heal().await.unwrap();
    assert_eq!(kind(&publisher).await, None);
}

#[tokio::test]
async fn a_connection_that_is_cut_leaves_it_unknown_and_one_that_is_refused_does_not() {
    let receiver = Endpoint::start(|_| Reply::Cut).await;
    let found = kind(&publisher(&receiver.url())).await;
    assert_eq!(found, Some(PublishErrorKind::Unknown));
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    assert_eq!(kind(&publisher(&url)).await, Some(PublishErrorKind::Down));
}

#[tokio::test]
async fn of_an_answer_only_so_much_is_read() {
    let chunked = "HTTP/1.1 200 Fine\r\ncontent-length: 1099511627776\r\n\r\n";
    let receiver = Endpoint::start(move |_| Reply::Endless(chunked.into(), "x")).await;
    assert_eq!(kind(&publisher(&receiver.url())).await, None);
    // What the system's own buffers take is not ours to bound.
    assert!(receiver.written() < 16 << 20, "{}", receiver.written());

    let head = "HTTP/1.1 200 Fine\r\n";
    let receiver = Endpoint::start(move |_| Reply::Endless(head.into(), "a: b\r\n")).await;
    let found = kind(&publisher(&receiver.url())).await;
    assert_eq!(found, Some(PublishErrorKind::Down));
    assert!(receiver.written() < 16 << 20, "{}", receiver.written());
}

#[tokio::test]
async fn what_is_no_http_is_down() {
    for bytes in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let receiver = Endpoint::start(move |_| Reply::Bytes(bytes.into())).await;
        let found = kind(&publisher(&receiver.url())).await;
        assert_eq!(found, Some(PublishErrorKind::Down), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_slow_body_changes_no_verdict() {
    let head = "HTTP/1.1 200 Fine\r\ncontent-length: 5\r\n\r\nab";
    let receiver = Endpoint::start(move |_| Reply::Bytes(head.into())).await;
    let publisher = publisher(&receiver.url());
    for _ in 0..2 {
        let sent = tokio::time::timeout(Duration::from_secs(5), kind(&publisher)).await;
        assert_eq!(sent, Ok(None));
    }
    // The connection on which a body was left is not used again.
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_for_good_and_not_sent() {
    let receiver = Endpoint::answers(200).await;
    let publisher = publisher_of(endpoint(&receiver.url()).longest_body(1024));
    let long = Message::builder("orders", "/shop", "t").payload(vec![0; 2000]);
    let odd = Message::builder("orders", "/shop", "t").id("a.b");
    for builder in [long, odd] {
        let delivery = Delivery::new(builder.build().unwrap(), 1, 1, at(NOW));
        let answers = publisher.publish(&[delivery]).await;
        let kinds: Vec<_> = answers
            .iter()
            .map(|it| it.as_ref().unwrap_err().kind())
            .collect();
        assert_eq!(kinds, [PublishErrorKind::RefusedForGood]);
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn nothing_of_a_message_can_add_a_field_or_a_request() {
    let receiver = Endpoint::answers(200).await;
    let publisher = publisher_of(endpoint(&receiver.url()).form(Form::Binary));
    // What has the end of a line in it is no message at all.
    for ends in ["a\r\nx-evil: 1", "a\nb", "a\u{85}b"] {
        let builder = Message::builder("orders", "/shop", "t").header("x-note", ends);
        assert!(builder.build().is_err());
        assert!(Message::builder("orders", "/shop", ends).build().is_err());
    }
    let nasty = "a: b\u{2028}GET / HTTP/1.1 %0d%0ax-evil: 1 \"";
    let message = Message::builder("orders", nasty, "t")
        .subject(nasty)
        .data_content_type("text/plain; a=\"b\"")
        .header("x-note", "ž; b, c")
        .header("host", "evil")
        .header("content-length", "0")
        .payload("x");
    let delivery = Delivery::new(message.build().unwrap(), 1, 1, at(NOW));
    assert_eq!(publisher.publish(&[delivery]).await, [Ok(())]);
    let request = &receiver.received()[0];
    let encoded = "a:%20b%E2%80%A8GET%20/%20HTTP/1.1%20%250d%250ax-evil:%201%20%22";
    assert_eq!(request.field("ce-subject"), Some(encoded));
    assert_eq!(request.field("ce-source"), Some(encoded));
    assert_eq!(request.field("x-evil"), None);
    assert_eq!(request.field("x-note"), Some("ž; b, c"));
    assert_ne!(request.field("host"), Some("evil"));
    assert_eq!(request.body, b"x");
}

#[tokio::test]
async fn so_many_at_once_and_no_more_and_answers_in_order() {
    let receiver = Endpoint::start(|request| {
        let id = request.field("webhook-id").unwrap_or_default();
        let refused = id.trim_start_matches("m-").parse::<u32>().unwrap() % 3 == 0;
        Reply::status(if refused { 400 } else { 200 })
    })
    .await;
    let publisher = publisher(&receiver.url()).with_concurrency(3).unwrap();
    let batch: Vec<_> = (0..20).map(|n| delivery(&format!("m-{n}"))).collect();
    let answers = publisher.publish(&batch).await;
    let refused: Vec<_> = answers.iter().map(Result::is_err).collect();
    let expected: Vec<_> = (0..20).map(|n| n % 3 == 0).collect();
    assert_eq!(refused, expected);
    assert_eq!(receiver.received().len(), 20);
    assert!((2..=3).contains(&receiver.most_at_once()));
    // Connections are kept and used again.
    assert!(receiver.connections() <= 3, "{}", receiver.connections());
    for wrong in [0, 257] {
        let publisher = self::publisher(&receiver.url());
        assert!(publisher.with_concurrency(wrong).is_err());
    }
}

#[tokio::test]
async fn once_the_endpoint_is_down_the_rest_of_a_batch_is_not_tried() {
    let receiver = Endpoint::answers(503).await;
    let publisher = publisher(&receiver.url()).with_concurrency(2).unwrap();
    let batch: Vec<_> = (0..20).map(|n| delivery(&format!("m-{n}"))).collect();
    let answers = publisher.publish(&batch).await;
    assert_eq!(answers.len(), 20);
    let kinds: Vec<_> = answers
        .iter()
        .map(|it| it.as_ref().unwrap_err().kind())
        .collect();
    assert_eq!(kinds[0], PublishErrorKind::Down);
    assert_eq!(kinds[19], PublishErrorKind::Skipped);
    assert!(
        receiver.received().len() <= 3,
        "{}",
        receiver.received().len()
    );
}

#[tokio::test]
async fn dropped_at_any_await_it_leaves_nothing_that_disturbs_the_next() {
    let _tally = buttress_testkit::tally::suite("X1");
    let receiver = Endpoint::answers(200).await;
    let (_proxy, url) = Proxy::before(&receiver.url()).await.unwrap();
    let publisher = publisher(&url);
    let swept = CancelSweep::default()
        .confirmed(3)
        .run(
            async || publisher.publish(&[delivery("m-1"), delivery("m-2")]).await,
            async |point| {
                let after = publisher.publish(&[delivery("m-3")]).await;
                assert_eq!(after, [Ok(())], "{point}");
            },
        )
        .await;
    assert!(swept.points > 0);
    assert_eq!(swept.output, [Ok(()), Ok(())]);
    // Every request that arrived was whole and signed.
    assert!(receiver.received().iter().all(|it| believed(it, &[1], NOW)));
}

#[tokio::test]
async fn one_client_serves_many_endpoints() {
    let client = client(only(&["127.0.0.1"]));
    for status in [200, 400] {
        let receiver = Endpoint::answers(status).await;
        let endpoint = endpoint(&receiver.url()).build().unwrap();
        let publisher = HttpPublisher::new(&client, endpoint).unwrap();
        assert_eq!(kind(&publisher).await.is_none(), status == 200);
    }
}

/// Another process, for the environment belongs to all of one.
#[tokio::test]
async fn no_proxy_of_the_environment_is_heeded() {
    let proxy = Endpoint::answers(502).await;
    let url = proxy.url();
    let run = tokio::task::spawn_blocking(move || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "webhook::publisher::a_message_arrives_signed_and_whole",
            ])
            .env("HTTP_PROXY", &url)
            .env("http_proxy", &url)
            .env("ALL_PROXY", &url)
            .output()
    });
    let output = run.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn a_batch_ends_within_the_time_that_is_told_however_long_it_is() {
    let receiver = Endpoint::start(|_| Reply::Slowly(Duration::from_millis(1500), 200)).await;
    let endpoint = endpoint(&receiver.url()).timeout(Duration::from_secs(2));
    let publisher = publisher_of(endpoint).with_concurrency(1).unwrap();
    assert!(publisher.longest_publish() >= Duration::from_secs(7));
    let batch: Vec<_> = (0..100).map(|n| delivery(&format!("m-{n}"))).collect();
    let sent = publisher.publish(&batch);
    let answers = tokio::time::timeout(publisher.longest_publish(), sent).await;
    let answers = answers.unwrap();
    assert_eq!(answers.len(), 100);
    assert_eq!(answers[0], Ok(()));
    let last = answers[99].as_ref().unwrap_err();
    assert_eq!(last.kind(), PublishErrorKind::Skipped);
    let delivered = answers.iter().filter(|it| it.is_ok()).count();
    assert_eq!(delivered, receiver.received().len());
}
