//! What HTTP is told of how a value came.

use std::io;

use buttress_cache_aside::{
    Loaded, Served,
    http::{CACHE_STATUS, add_fields, cache_status},
};
use http::{HeaderMap, HeaderValue, header::ETAG};

use crate::stand::{SECOND, Stand, failed, policy, seconds};

fn said(served: &Served<u32>) -> String {
    cache_status("numbers", served).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_way_by_which_a_value_comes_is_told_as_rfc_9211_says() {
    let stand = Stand::new(
        policy()
            .stale_while_revalidate(2 * SECOND)
            .stale_if_error(60 * SECOND),
    );
    let load = || {
        stand
            .cache
            .serve_or_load("key", |_| async { Ok::<_, io::Error>(1) })
    };
    let fail = || {
        stand
            .cache
            .serve_or_load("key", |_| async { Err::<u32, _>(failed()) })
    };
    assert_eq!(said(&load().await.unwrap()), "numbers;fwd=miss;stored");
    stand.hand.advance(seconds(2.5));
    assert_eq!(said(&load().await.unwrap()), "numbers;hit;ttl=7");
    stand.hand.advance(seconds(8.0));
    assert_eq!(said(&fail().await.unwrap()), "numbers;hit;ttl=-1");
    stand.settle().await;
    stand.hand.advance(seconds(7.0));
    assert_eq!(
        said(&fail().await.unwrap()),
        "numbers;fwd=stale;ttl=-8;detail=STALE_IF_ERROR"
    );
    stand.hand.advance(seconds(7.0));
    assert_eq!(said(&load().await.unwrap()), "numbers;fwd=stale;stored");
    let unkept = |_| async { Ok::<_, io::Error>(Loaded::new(1).do_not_cache()) };
    let served = stand.cache.serve_or_load("unkept", unkept).await.unwrap();
    assert_eq!(said(&served), "numbers;fwd=miss");
    let slow = || {
        stand.cache.serve_or_load("slow", |_| async {
            tokio::task::yield_now().await;
            Ok::<_, io::Error>(1)
        })
    };
    let (_, joined) = tokio::join!(slow(), slow());
    assert_eq!(said(&joined.unwrap()), "numbers;fwd=miss;stored;collapsed");
}

#[tokio::test]
async fn a_name_that_is_no_token_is_a_string_and_any_name_makes_a_field() {
    let stand = Stand::new(policy());
    let served = stand
        .cache
        .serve_or_load("key", |_| async { Ok::<_, io::Error>(1) });
    let served = served.await.unwrap();
    for (name, field) in [
        ("a b", "\"a b\";fwd=miss;stored"),
        ("a\"b", "\"a\\\"b\";fwd=miss;stored"),
        ("größe", "cache;fwd=miss;stored"),
        ("", "\"\";fwd=miss;stored"),
        ("a\r\nb", "cache;fwd=miss;stored"),
    ] {
        assert_eq!(cache_status(name, &served), field, "{name:?}");
    }
}

#[tokio::test]
async fn the_fields_of_caches_nearer_to_the_source_stay_before_ours() {
    let stand = Stand::new(policy());
    let tagged = |_| async { Ok::<_, io::Error>(Loaded::new(1).etag("\"v1\"")) };
    let served = stand.cache.serve_or_load("key", tagged).await.unwrap();
    let mut fields = HeaderMap::new();
    fields.append(CACHE_STATUS, HeaderValue::from_static("origin;hit"));
    add_fields(&mut fields, "ours", &served);
    let told: Vec<_> = fields.get_all(CACHE_STATUS).iter().collect();
    assert_eq!(told, ["origin;hit", "ours;fwd=miss;stored"]);
    assert_eq!(fields[ETAG], "\"v1\"");
}
