//! The layers: who a client is, what a refusal says, and that state is the layer's.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, routing::get};
use buttress_core::{CallError, Clock, Fault};
use buttress_rate_limiter::{
    Bandwidth, Event, EventKind, KeyedRateLimiter, Quota, RateLimiter, SharedRateLimiter, WhenDown,
    http::{Client, Fields, Forwarding, PolicyField, Proxies, RateLimitField},
    store::{Answer, Ask, MemoryStore, Store},
    tower::{HttpRateLimitLayer, RateLimitLayer},
};
use buttress_store::{Deadline, Key, Phase, StoreError};
use http::{HeaderName, Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

fn parts(peer: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::new(());
    let peer: IpAddr = peer.parse().unwrap();
    request.extensions_mut().insert(SocketAddr::new(peer, 4711));
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    request.into_parts().0
}

fn of(address: &str) -> Option<Vec<u8>> {
    Client::address(Proxies::none()).key(&parts(address, &[]))
}

#[test]
fn a_spoofed_x_forwarded_for_changes_nothing_unless_its_proxy_is_trusted() {
    let tally = buttress_testkit::tally::suite("RL7");
    let xff = |value| [("x-forwarded-for", value)];
    let behind = |count| Client::address(Proxies::count(count));
    for (count, peer, field, client) in [
        (0, "9.9.9.9", "1.1.1.1", "9.9.9.9"),
        (1, "10.0.0.1", "1.1.1.1", "1.1.1.1"),
        (1, "10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (1, "10.0.0.1", "6.6.6.6, 7.7.7.7 ,1.1.1.1:80", "1.1.1.1"),
        (2, "10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        (1, "10.0.0.1", "6.6.6.6, unknown", "10.0.0.1"),
        (1, "10.0.0.1", "6.6.6.6,", "10.0.0.1"),
        (3, "10.0.0.1", "1.1.1.1", "1.1.1.1"),
        (1, "10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
    ] {
        let key = behind(count).key(&parts(peer, &xff(field)));
        assert_eq!(key, of(client), "{count} behind {peer}: {field}");
    }
    // Two lines are one list.
    let lines = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "1.1.1.1"),
    ];
    assert_eq!(behind(1).key(&parts("10.0.0.1", &lines)), of("1.1.1.1"));
    // Past the proxies, a field is a stranger's.
    let inside = Proxies::count(2).within(|address| match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(_) => false,
    });
    let inside = Client::address(inside);
    let direct = parts("9.9.9.9", &xff("1.1.1.1"));
    assert_eq!(inside.key(&direct), of("9.9.9.9"));
    let one = parts("10.0.0.1", &xff("6.6.6.6, 1.1.1.1"));
    assert_eq!(
        inside.key(&one),
        of("1.1.1.1"),
        "the first that is no proxy"
    );
    // What a service behind no proxy is told is not looked at, of either kind.
    let forwarded = [("forwarded", "for=1.1.1.1")];
    assert_eq!(
        behind(1).key(&parts("10.0.0.1", &forwarded)),
        of("10.0.0.1")
    );
    tally.operations(14);
}

#[test]
fn forwarded_is_read_as_rfc_7239_has_it() {
    let proxies = Proxies::count(1).writing(Forwarding::Forwarded);
    let client = Client::address(proxies);
    for (field, expected) in [
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
        ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
        ("for=6.6.6.6, proto=http;for=\"1.1.1.1:80\"", "1.1.1.1"),
        ("for=6.6.6.6;host=\"a,b\"", "6.6.6.6"),
        ("for=unknown", "10.0.0.1"),
        ("for=_hidden", "10.0.0.1"),
        ("by=1.1.1.1", "10.0.0.1"),
        ("f", "10.0.0.1"),
    ] {
        let key = client.key(&parts("10.0.0.1", &[("forwarded", field)]));
        assert_eq!(key, of(expected), "{field}");
    }
}

#[test]
fn one_ipv6_network_is_one_client_and_a_mapped_address_is_the_plain_one() {
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
    assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
}

#[test]
fn a_client_can_be_a_header_an_extension_or_a_closure() {
    #[derive(Clone)]
    struct Tenant(u8);
    let mut parts = parts("1.1.1.1", &[("x-api-key", "k1")]);
    parts.extensions.insert(Tenant(7));
    let header = Client::header(HeaderName::from_static("x-api-key"));
    assert_eq!(header.key(&parts).as_deref(), Some(&b"k1"[..]));
    let extension = Client::extension(|tenant: &Tenant| vec![tenant.0]);
    assert_eq!(extension.key(&parts), Some(vec![7]));
    let closure = Client::by(|parts| Some(parts.method.as_str().into()));
    assert_eq!(closure.key(&parts).as_deref(), Some(&b"GET"[..]));
    assert_eq!(
        Client::header(HeaderName::from_static("x-other")).key(&parts),
        None
    );
}

#[test]
fn fields_have_the_form_of_draft_10() {
    let quota = Quota::new(Bandwidth::per_minute(100)).unwrap();
    let burst = quota
        .clone()
        .and(Bandwidth::per_day(1000).fixed_window())
        .unwrap();
    let text = |quota: &Quota| {
        let items: Vec<_> = PolicyField::of("burst", quota)
            .iter()
            .map(ToString::to_string)
            .collect();
        items.join(",")
    };
    assert_eq!(text(&quota), "\"burst\";q=100;w=60", "L1");
    let several = "\"burst-1\";q=100;w=60,\"burst-2\";q=1000;w=86400";
    assert_eq!(text(&burst), several, "L1, L16");
    let (clock, _hand) = Clock::manual();
    let limiter = RateLimiter::builder("x", quota)
        .clock(clock)
        .build()
        .unwrap();
    let field = RateLimitField::new("default", &limiter.check_n(50));
    assert_eq!(field.to_string(), "\"default\";r=50;t=30", "L3");
    let field = RateLimitField::new("day", &limiter.check_n(51));
    assert_eq!(
        field.to_string(),
        "\"day\";r=50;t=1",
        "L4: of a refusal, when to come back, rounded up"
    );
    let quoted = PolicyField::new("a\"b\\c\u{e9}\n", 0, 1).to_string();
    assert_eq!(quoted, "\"a\\\"b\\\\c??\";q=0;w=1", "L9, L14");
}

type Answered = Result<Response<Body>, std::convert::Infallible>;

fn inner()
-> impl Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible, Future: Send>
+ Clone {
    service_fn(|_: Request<Body>| async { Answered::Ok(Response::new(Body::from("served"))) })
}

fn keyed(quota: Quota) -> (KeyedRateLimiter<Vec<u8>>, buttress_core::clock::ManualHand) {
    let (clock, hand) = Clock::manual();
    let limiter = KeyedRateLimiter::builder("orders", quota)
        .clock(clock)
        .build();
    (limiter.unwrap(), hand)
}

fn request(path: &str, key: &str) -> Request<Body> {
    Request::get(path)
        .header("x-api-key", key)
        .body(Body::empty())
        .unwrap()
}

fn by_header() -> Client {
    Client::header(HeaderName::from_static("x-api-key"))
}

fn field<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_refusal_is_a_429_that_says_when_to_come_back_and_is_not_cached() {
    let (limits, hand) = keyed(Quota::new(Bandwidth::per_second(1).burst(2)).unwrap());
    let mut service = HttpRateLimitLayer::new(limits, by_header())
        .fields(Fields::Both)
        .layer(inner());
    for left in ["1", "0"] {
        let response = service
            .ready()
            .await
            .unwrap()
            .call(request("/", "a"))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(field(&response, "x-ratelimit-remaining"), Some(left));
        assert_eq!(
            field(&response, "ratelimit-policy"),
            Some("\"orders\";q=2;w=1")
        );
        assert!(field(&response, "retry-after").is_none());
    }
    hand.advance(Duration::from_millis(1));
    let response = service
        .ready()
        .await
        .unwrap()
        .call(request("/", "a"))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    // 999 ms: a whole second, never zero.
    assert_eq!(field(&response, "retry-after"), Some("1"));
    assert_eq!(field(&response, "ratelimit"), Some("\"orders\";r=0;t=1"));
    assert_eq!(field(&response, "x-ratelimit-limit"), Some("2"));
    assert_eq!(field(&response, "cache-control"), Some("no-store"), "L13");
    assert_eq!(
        field(&response, "content-type"),
        Some("application/problem+json")
    );
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&body["status"], &body["code"]),
        (&429.into(), &"RATE_LIMITED".into())
    );
    let other = service
        .ready()
        .await
        .unwrap()
        .call(request("/", "b"))
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::OK, "another client");
}

#[tokio::test]
async fn routes_have_quotas_of_their_own_and_requests_their_cost() {
    let (all, _hand) = keyed(Quota::per_minute(10).unwrap());
    let (logins, _hand) = keyed(Quota::per_minute(1).unwrap());
    let service = HttpRateLimitLayer::new(all, by_header())
        .route(|parts| parts.uri.path() == "/login", logins)
        .cost(|parts| match parts.uri.path() {
            "/health" => 0,
            "/export" => 10,
            _ => 1,
        })
        .layer(inner());
    let status = async |path: &str| {
        let response = service.clone().oneshot(request(path, "a")).await.unwrap();
        assert!(
            field(&response, "ratelimit").is_none(),
            "off unless asked for"
        );
        response.status().as_u16()
    };
    assert_eq!([status("/login").await, status("/login").await], [200, 429]);
    assert_eq!([status("/export").await, status("/").await], [200, 429]);
    assert_eq!(status("/health").await, 200);
    let nameless = Request::get("/").body(Body::empty()).unwrap();
    let response = service.clone().oneshot(nameless).await.unwrap();
    assert_eq!(
        response.status(),
        200,
        "those who cannot be told share a key of their own"
    );
    let long = service
        .clone()
        .oneshot(request("/", &"k".repeat(2000)))
        .await
        .unwrap();
    assert_eq!(long.status(), 400);
}

#[tokio::test]
async fn in_shadow_all_is_let_through_and_told() {
    let heard = Arc::new(AtomicUsize::new(0));
    let hears = Arc::clone(&heard);
    let limits = KeyedRateLimiter::builder("shadow", Quota::per_minute(1).unwrap())
        .observer(move |event: &Event| {
            let refused = matches!(event.kind, EventKind::Refused { .. });
            hears.fetch_add(usize::from(refused), SeqCst);
        })
        .build()
        .unwrap();
    let service = HttpRateLimitLayer::new(limits, by_header())
        .shadow(true)
        .layer(inner());
    for _ in 0..3 {
        let response = service.clone().oneshot(request("/", "a")).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert_eq!(heard.load(SeqCst), 2);
}

#[derive(Debug)]
pub(crate) struct Down;

#[async_trait::async_trait]
impl Store for Down {
    async fn decide(&self, _: &Key, _: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        deadline
            .run(Phase::Read, std::future::pending::<Result<_, StoreError>>())
            .await
    }

    async fn forget(&self, _: &Key, _: Deadline) -> Result<(), StoreError> {
        Ok(())
    }

    async fn prune(&self, _: u32, _: Deadline) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_limit_calls_the_instance_that_was_ready_and_a_dead_store_is_a_503() {
    let quota = || Quota::new(Bandwidth::per_day(1)).unwrap();
    let shared = SharedRateLimiter::new("http", quota(), MemoryStore::new()).unwrap();
    // A service that panics when it is called without having been ready, as tower's buffers do.
    let strict = tower::limit::ConcurrencyLimit::new(inner(), 1);
    let service = HttpRateLimitLayer::new(shared, by_header())
        .fields(Fields::Draft10)
        .respond_with(|fault: &dyn Fault| {
            let mut response = Response::new(Body::from(fault.code()));
            *response.status_mut() = StatusCode::from_u16(fault.status()).unwrap();
            response
        })
        .layer(strict);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let response = service.clone().oneshot(request("/", "a")).await.unwrap();
        assert!(field(&response, "ratelimit").is_some());
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses, [200, 429, 429]);

    let down = SharedRateLimiter::builder("down", quota(), Down)
        .when_down(WhenDown::Closed)
        .build()
        .unwrap();
    let service = HttpRateLimitLayer::new(down, by_header()).layer(inner());
    let response = service.clone().oneshot(request("/", "a")).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(field(&response, "retry-after").is_some());
}

async fn served(application: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let make = application.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, make).await });
    address
}

async fn fetched(address: SocketAddr, fields: &str) -> u16 {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn state_is_the_layers_over_fresh_connections_and_when_it_is_applied_twice() {
    let peer = |extensions: &http::Extensions| {
        let info = extensions.get::<ConnectInfo<SocketAddr>>();
        info.map(|info| info.0.ip())
    };
    let limits = KeyedRateLimiter::new("tcp", Quota::new(Bandwidth::per_day(4)).unwrap()).unwrap();
    let layer = HttpRateLimitLayer::new(limits, Client::address_of(Proxies::none(), peer));
    let once = Router::new()
        .route("/", get(|| async { "served" }))
        .layer(layer.clone());
    let address = served(once.clone()).await;
    assert_eq!(fetched(address, "").await, 200);
    // A spoofed field makes nobody another client.
    assert_eq!(fetched(address, "x-forwarded-for: 6.6.6.6\r\n").await, 200);
    // Twice around one service it asks twice, of the same limit.
    let twice = served(once.layer(layer)).await;
    assert_eq!(fetched(twice, "").await, 200);
    assert_eq!(fetched(address, "").await, 429);
    assert_eq!(fetched(twice, "forwarded: for=6.6.6.6\r\n").await, 429);
}

#[tokio::test]
async fn the_plain_layer_rejects_before_the_service_and_shares_its_state() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&calls);
    let service = service_fn(move |(): ()| {
        counts.fetch_add(1, SeqCst);
        async { Ok::<_, std::io::Error>(7) }
    });
    let quota = Quota::new(Bandwidth::per_day(2)).unwrap();
    let layer = RateLimitLayer::new(RateLimiter::new("plain", quota).unwrap());
    let (one, other) = (layer.layer(service.clone()), layer.layer(service));
    assert!(one.oneshot(()).await.is_ok() && other.clone().oneshot(()).await.is_ok());
    let rejected = other.oneshot(()).await.unwrap_err();
    assert!(matches!(rejected, CallError::Rejected(_)));
    assert_eq!(calls.load(SeqCst), 2);
}
