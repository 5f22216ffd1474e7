//! What callers are spared.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use crate::house::{gateway, nobody, status, upstream};

#[tokio::test]
async fn an_upstream_that_fails_now_and_then_is_not_seen() {
    let (flaky, asked) = upstream(async |n, _| status(if n % 5 == 0 { 500 } else { 200 })).await;
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{flaky}\"]\n\
         retry = {{ attempts = 4, backoff = {{ shape = {{ constant = {{ delay_ms = 1 }} }} }} }}\n\
         budget = {{ tokens = {{ ttl_ms = 10000, per_second = 10, ratio = 0.5 }} }}"
    ))
    .await;
    for _ in 0..40 {
        let response = reqwest::get(format!("{gateway}/a/b")).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert_eq!(asked.load(SeqCst), 50);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_left_alone_and_the_other_one_serves() {
    let (up, asked) = upstream(async |_, _| status(200)).await;
    let down = nobody();
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{down}\", \"http://{up}\"]\n\
         breaker = {{ consecutive_failures = 3, open_time = {{ first_ms = 60000, cap_ms = 60000 }} }}"
    ))
    .await;
    for _ in 0..30 {
        // A refused connection was no attempt that could have done anything: a POST goes on too.
        let sent = reqwest::Client::new().post(format!("{gateway}/a")).send();
        assert_eq!(sent.await.unwrap().status(), 200);
    }
    assert_eq!(asked.load(SeqCst), 30);
    let handles = reqwest::get(format!("{gateway}/-/handles")).await.unwrap();
    let handles: serde_json::Value = handles.json().await.unwrap();
    let state = |upstream: String| {
        let all = handles["data"].as_array().unwrap();
        let found = all.iter().find(|it| it["name"] == upstream).unwrap();
        found["state"].clone()
    };
    assert_eq!(state(format!("http://{down}")), "open");
    assert_eq!(state(format!("http://{up}")), "closed");
}

#[tokio::test]
async fn when_all_are_down_the_caller_hears_it_at_once_and_when_to_come_back() {
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{}\"]\n\
         retry = {{ attempts = 2, longest_wait_ms = 100 }}\n\
         breaker = {{ consecutive_failures = 2, open_time = {{ first_ms = 60000, cap_ms = 60000 }} }}",
        nobody()
    ))
    .await;
    let ask = || reqwest::get(format!("{gateway}/a"));
    let first = ask().await.unwrap();
    assert_eq!(first.status(), 502);
    let second = ask().await.unwrap();
    assert_eq!(second.status(), 503);
    assert!(second.headers().contains_key("retry-after"));
    let body: serde_json::Value = second.json().await.unwrap();
    assert_eq!(body["error"]["code"], "CIRCUIT_OPEN");
}

#[tokio::test]
async fn what_may_have_been_done_is_sent_once_unless_a_key_says_that_twice_is_as_once() {
    let (failing, asked) = upstream(async |_, _| status(500)).await;
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{failing}\"]\n\
         retry = {{ attempts = 3, backoff = {{ shape = {{ constant = {{ delay_ms = 1 }} }} }} }}"
    ))
    .await;
    let client = reqwest::Client::new();
    let post = || client.post(format!("{gateway}/a")).body("order");
    let response = post().send().await.unwrap();
    // The upstream's own error goes out as it is.
    assert_eq!(response.status(), 500);
    assert_eq!(response.text().await.unwrap(), "upstream 500");
    assert_eq!(asked.load(SeqCst), 1);
    post().header("idempotency-key", "k").send().await.unwrap();
    assert_eq!(asked.load(SeqCst), 4);
}

#[tokio::test]
async fn an_answer_that_is_late_is_overtaken_by_a_second_attempt() {
    let (slow, asked) = upstream(async |n, _| {
        let wait = if n == 0 { 5000 } else { 0 };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        status(200)
    })
    .await;
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{slow}\"]\n\
         attempt_ms = 10000\nhedge = {{ after_ms = 50 }}"
    ))
    .await;
    let begun = tokio::time::Instant::now();
    let response = reqwest::get(format!("{gateway}/a")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test]
async fn an_upstream_that_hangs_costs_no_more_than_the_time_it_was_given() {
    let (hanging, _) = upstream(async |_, _| std::future::pending().await).await;
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{hanging}\"]\n\
         attempt_ms = 50\nretry = {{ attempts = 2, total_time_ms = 1000 }}"
    ))
    .await;
    let asked = reqwest::get(format!("{gateway}/a"));
    let response = tokio::time::timeout(Duration::from_secs(5), asked).await;
    let response = response.unwrap().unwrap();
    assert_eq!(response.status(), 504);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "UPSTREAM_TIMEOUT");
}

#[tokio::test]
async fn a_client_who_asks_too_often_is_refused_before_anybody_is_asked() {
    let (up, asked) = upstream(async |_, _| status(200)).await;
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{up}\"]\n\
         client = {{ permits = 2, per_ms = 60000 }}"
    ))
    .await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        // Who says that he is somebody else is not believed: no proxy stands before this one.
        let request = reqwest::Client::new().get(format!("{gateway}/a"));
        let request = request.header("x-forwarded-for", format!("10.0.0.{}", statuses.len()));
        let response = request.send().await.unwrap();
        statuses.push(response.status().as_u16());
        if let [.., 429] = statuses[..] {
            assert!(response.headers().contains_key("retry-after"));
            let body: serde_json::Value = response.json().await.unwrap();
            assert_eq!(body["error"]["code"], "RATE_LIMITED");
        }
    }
    assert_eq!(
        (&statuses[..], asked.load(SeqCst)),
        (&[200, 200, 429][..], 2)
    );
}
