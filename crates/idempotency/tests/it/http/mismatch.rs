//! ID4: a key that comes with another request never gets the first one's answer.

use buttress_testkit::{seed::Seed, tier::short_or_long};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use rand::{RngExt, rngs::StdRng};

use super::stand::{Stand, ask};

/// What is asked, in parts that are changed one by one.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    method: Method,
    path: String,
    query: String,
    media_type: &'static str,
    body: String,
    caller: &'static str,
}

fn any(random: &mut StdRng) -> Asked {
    let mut word = |words: &[&'static str]| words[random.random_range(0..words.len())];
    let method = if word(&["a", "b"]) == "a" {
        Method::POST
    } else {
        Method::PATCH
    };
    Asked {
        method,
        path: format!("/{}", word(&["a", "b", "a/b", "A", "a%2Fb", ""])),
        query: word(&["", "x=1", "x=2", "x=1&y=1", "y=1&x=1"]).to_owned(),
        media_type: word(&["application/json", "application/x+json", "text/plain"]),
        body: word(&[
            "",
            "{}",
            "{\"a\":1}",
            "{\"a\":2}",
            "{\"a\":1,\"a\":2}",
            "[1]",
            "[1,2]",
            "1",
            "\"1\"",
            "9007199254740992",
            "9007199254740993",
            "{\"a\":\"é\"}",
            "{\"a\":\"e\u{301}\"}",
            "{",
            "0.1",
            "0.10000000000000001",
            "null",
            "1e400",
            "1e401",
        ])
        .to_owned(),
        caller: word(&["alice", "bob"]),
    }
}

fn request(asked: &Asked, key: &str) -> Request<Full<Bytes>> {
    let uri = match asked.query.as_str() {
        "" => asked.path.clone(),
        query => format!("{}?{query}", asked.path),
    };
    Request::builder()
        .method(asked.method.clone())
        .uri(uri)
        .header("idempotency-key", key)
        .header("content-type", asked.media_type)
        .header("x-caller", asked.caller)
        .body(Full::from(asked.body.clone()))
        .unwrap()
}

#[tokio::test]
async fn id4_another_request_with_the_key_is_refused_or_its_own_and_never_a_replay() {
    let tally = buttress_testkit::tally::suite("ID4");
    let stand = Stand::new();
    let (layer, service) = (stand.layer(), stand.answering(201));
    let random = &mut Seed::new().rng();
    let (mut refused, mut own) = (0, 0);
    for key in 0..short_or_long(10_000, 100_000) {
        let key = format!("key {key}");
        let (one, other) = (any(random), any(random));
        let first = ask(&layer, service.clone(), request(&one, &key)).await;
        assert!(first.status == 201 && !first.is_replay());
        let second = ask(&layer, service.clone(), request(&other, &key)).await;
        // Caller, method and route are the key's scope; all else is its fingerprint.
        let scope = |it: &Asked| (it.caller, it.method.clone(), it.path.clone());
        if one == other {
            assert!(second.is_replay() && second.body == first.body, "{one:?}");
        } else if scope(&one) == scope(&other) {
            assert_eq!(second.status, 422, "{one:?} {other:?}");
            refused += 1;
        } else {
            assert!(
                second.status == 201 && !second.is_replay(),
                "{one:?} {other:?}"
            );
            assert_ne!(second.body, first.body);
            own += 1;
        }
    }
    assert!(
        refused > 100 && own > 1000,
        "{refused} refused, {own} of their own"
    );
    tally.operations(refused + own);
}
