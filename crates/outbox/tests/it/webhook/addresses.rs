//! No webhook goes inside: judged by the address that is really connected to.
//!
//! Addresses of 127.0.0.0/8 play both parts here: some are allowed and stand for the public
//! internet, the others are not and stand for what is inside.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress_outbox::{
    PublishErrorKind,
    publisher::http::{Addresses, HttpClient, HttpPublisher, Resolve},
};
use tokio::net::TcpStream;

use super::{
    endpoint::{Endpoint, Reply},
    stand::{client, endpoint, kind, only},
};

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const CLOSED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// Answers each question with the next of its answers, and the last one from then on.
#[derive(Clone)]
struct Told(Arc<(AtomicUsize, Vec<Vec<IpAddr>>)>);

impl Told {
    fn new(answers: &[&[IpAddr]]) -> Self {
        let answers = answers.iter().map(|it| it.to_vec()).collect();
        Self(Arc::new((AtomicUsize::new(0), answers)))
    }

    fn asked(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl Resolve for Told {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        assert_eq!(host, "hooks.example.com");
        let (asked, answers) = &*self.0;
        let n = asked.fetch_add(1, Ordering::SeqCst);
        Ok(answers[n.min(answers.len() - 1)].clone())
    }
}

fn named(resolver: Told, port: u16) -> HttpPublisher {
    let client = HttpClient::builder()
        .addresses(only(&["127.0.0.2", "127.0.0.3"]))
        .resolver(resolver)
        .build()
        .unwrap();
    let url = format!("http://hooks.example.com:{port}/");
    let endpoint = endpoint(&url).timeout(Duration::from_secs(5)).build();
    HttpPublisher::new(&client, endpoint.unwrap()).unwrap()
}

/// Two endpoints on one port, inside and outside. Connections are not kept.
async fn two() -> (Endpoint, Endpoint, u16) {
    let close = |_: &_| Reply::with(200, "connection: close\r\n");
    let inside = Endpoint::start_on(SocketAddr::new(INSIDE, 0), close).await;
    let port = inside.port();
    let outside = Endpoint::start_on(SocketAddr::new(OUTSIDE, port), close).await;
    (inside, outside, port)
}

#[tokio::test]
async fn a_name_that_changes_its_meaning_between_two_messages_does_not_lead_inside() {
    let (inside, outside, port) = two().await;
    let told = Told::new(&[&[OUTSIDE], &[INSIDE]]);
    let publisher = named(told.clone(), port);
    assert_eq!(kind(&publisher).await, None);
    for _ in 0..3 {
        assert_eq!(kind(&publisher).await, Some(PublishErrorKind::Down));
    }
    assert_eq!((outside.connections(), inside.connections()), (1, 0));
    // Asked once for each connection: nothing is judged by one answer and connected by another.
    assert_eq!(told.asked(), 4);
}

/// A way to connect to a host by a resolver, if the addresses permit it.
trait Connects {
    async fn connect(&self, addresses: &Addresses, told: &Told, port: u16);
}

struct Ours;

impl Connects for Ours {
    async fn connect(&self, _: &Addresses, told: &Told, port: u16) {
        let _ = kind(&named(told.clone(), port)).await;
    }
}

async fn connect_any(found: &[IpAddr], port: u16) {
    for address in found {
        if TcpStream::connect((*address, port)).await.is_ok() {
            return;
        }
    }
}

/// Planted: only the first of the addresses is judged.
struct JudgesTheFirst;

impl Connects for JudgesTheFirst {
    async fn connect(&self, addresses: &Addresses, told: &Told, port: u16) {
        let found = told.resolve("hooks.example.com").await.unwrap();
        if found.first().is_some_and(|first| addresses.permits(*first)) {
            connect_any(&found, port).await;
        }
    }
}

/// Planted: the name is asked for once to judge it, and again to connect to it.
struct AsksTwice;

impl Connects for AsksTwice {
    async fn connect(&self, addresses: &Addresses, told: &Told, port: u16) {
        let found = told.resolve("hooks.example.com").await.unwrap();
        if found.iter().all(|address| addresses.permits(*address)) {
            let again = told.resolve("hooks.example.com").await.unwrap();
            connect_any(&again, port).await;
        }
    }
}

/// The answers by which it got inside.
async fn ways_inside(connects: &impl Connects) -> Vec<&'static str> {
    let mut ways = Vec::new();
    let answers: [(&'static str, &[&[IpAddr]]); 5] = [
        ("inside", &[&[INSIDE]]),
        ("inside, then outside", &[&[INSIDE, OUTSIDE]]),
        ("a closed one, then inside", &[&[CLOSED, INSIDE]]),
        ("at first outside, later inside", &[&[OUTSIDE], &[INSIDE]]),
        ("nothing", &[&[]]),
    ];
    for (name, answers) in answers {
        let (inside, _outside, port) = two().await;
        let addresses = only(&["127.0.0.2", "127.0.0.3"]);
        connects
            .connect(&addresses, &Told::new(answers), port)
            .await;
        // What was connected is accepted by now, or it never will be.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if inside.connections() > 0 {
            ways.push(name);
        }
    }
    ways
}

#[tokio::test]
async fn no_answer_of_a_resolver_leads_inside() {
    assert_eq!(ways_inside(&Ours).await, Vec::<&str>::new());
}

#[tokio::test]
async fn connectors_that_judge_too_little_or_too_early_are_caught() {
    let first = ways_inside(&JudgesTheFirst).await;
    assert_eq!(first, ["a closed one, then inside"]);
    let twice = ways_inside(&AsksTwice).await;
    assert_eq!(twice, ["at first outside, later inside"]);
}

#[tokio::test]
async fn of_several_addresses_the_permitted_ones_are_tried() {
    let (inside, outside, port) = two().await;
    let told = Told::new(&[&[INSIDE, CLOSED, OUTSIDE]]);
    assert_eq!(kind(&named(told, port)).await, None);
    assert_eq!((outside.connections(), inside.connections()), (1, 0));
}

#[tokio::test]
async fn no_spelling_of_an_address_leads_inside() {
    let inside = Endpoint::answers(200).await;
    let port = inside.port();
    let six = SocketAddr::new("::1".parse().unwrap(), port);
    // Where there is IPv6.
    let six = tokio::net::TcpListener::bind(six).await;
    let client = client(Addresses::public());
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "0177.0.0.1",
        "2130706433",
        "017700000001",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1%25lo]",
    ] {
        let url = format!("http://{host}:{port}/");
        // What is no URL, and what is an address that is known to be refused, does not build.
        let Ok(endpoint) = endpoint(&url).timeout(Duration::from_secs(5)).build() else {
            continue;
        };
        let Ok(publisher) = HttpPublisher::new(&client, endpoint) else {
            continue;
        };
        assert_eq!(
            kind(&publisher).await,
            Some(PublishErrorKind::Down),
            "{host}"
        );
    }
    assert_eq!(inside.connections(), 0);
    // And these are ways in, for one who is permitted to take them.
    for host in ["127.1", "0x7f000001", "2130706433", "localhost"] {
        let client = self::client(only(&["127.0.0.1"]));
        let endpoint = endpoint(&format!("http://{host}:{port}/")).build().unwrap();
        let publisher = HttpPublisher::new(&client, endpoint).unwrap();
        assert_eq!(kind(&publisher).await, None, "{host}");
    }
    if let Ok(six) = six {
        let nobody = tokio::time::timeout(Duration::from_millis(20), six.accept()).await;
        assert!(nobody.is_err());
    }
}

#[tokio::test]
async fn a_literal_address_that_is_not_permitted_does_not_build() {
    let client = client(Addresses::public());
    for (url, fits) in [
        ("http://127.0.0.1/", false),
        ("http://[::1]/", false),
        ("http://[::ffff:10.0.0.1]/", false),
        ("http://169.254.169.254/latest/meta-data", false),
        ("http://1.1.1.1/", true),
        ("http://[2606:4700:4700::1111]/", true),
        ("http://localhost/", true),
        // This client has no TLS.
        ("https://example.com/", false),
    ] {
        let endpoint = endpoint(url).build().unwrap();
        let error = HttpPublisher::new(&client, endpoint).map(drop);
        assert_eq!(error.is_ok(), fits, "{url}");
        if let Err(error) = error {
            assert_eq!(error.field(), "url");
        }
    }
}

#[tokio::test]
async fn a_resolver_that_hangs_or_fails_is_an_endpoint_that_is_down() {
    struct Hangs(bool);

    #[async_trait::async_trait]
    impl Resolve for Hangs {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            if self.0 {
                std::future::pending::<()>().await;
            }
            Err(io::Error::other("canary"))
        }
    }

    for hangs in [true, false] {
        let client = HttpClient::builder()
            .resolver(Hangs(hangs))
            .connect_timeout(Duration::from_millis(100))
            .build()
            .unwrap();
        let endpoint = endpoint("http://hooks.example.com/").build().unwrap();
        let publisher = HttpPublisher::new(&client, endpoint).unwrap();
        let sent = super::stand::publish(&publisher, "m-1").await.unwrap_err();
        assert_eq!(sent.kind(), PublishErrorKind::Down);
        assert!(!format!("{sent} {sent:?}").contains("canary"));
        assert!(!format!("{sent} {sent:?}").contains("example"));
    }
}

#[test]
fn a_connect_timeout_that_cannot_work_does_not_build() {
    for timeout in [Duration::ZERO, Duration::MAX] {
        let refused = HttpClient::builder().connect_timeout(timeout).build();
        assert_eq!(refused.map(drop).unwrap_err().field(), "connect_timeout");
    }
}
