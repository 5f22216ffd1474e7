//! What the tests of webhooks share: messages, secrets, publishers to addresses of this host.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use buttress_outbox::{
    Delivery, Message, PublishError, PublishErrorKind, Publisher,
    publisher::http::{Addresses, EndpointBuilder, HttpClient, HttpPublisher},
    webhook::{Secret, Signer, Verifier},
};

pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(crate) fn secret(byte: u8) -> Secret {
    Secret::from_bytes(vec![byte; 32]).unwrap()
}

pub(crate) fn signer(secrets: &[u8]) -> Signer {
    Signer::new(secrets.iter().copied().map(secret)).unwrap()
}

pub(crate) fn verifier(secrets: &[u8]) -> Verifier {
    Verifier::new(secrets.iter().copied().map(secret)).unwrap()
}

/// A message of that id.
pub(crate) fn delivery(id: &str) -> Delivery {
    let message = Message::builder("orders", "/shop", "order.placed")
        .id(id)
        .json(&serde_json::json!({"order": 7}))
        .build();
    Delivery::new(message.unwrap(), 1, 1, at(NOW))
}

/// Only these addresses, and the public ones.
pub(crate) fn only(addresses: &[&str]) -> Addresses {
    addresses.iter().fold(Addresses::public(), |all, address| {
        let address: IpAddr = address.parse().unwrap();
        all.allow(address.into())
    })
}

pub(crate) fn client(addresses: Addresses) -> HttpClient {
    HttpClient::builder().addresses(addresses).build().unwrap()
}

pub(crate) fn endpoint(url: &str) -> EndpointBuilder {
    let endpoint = buttress_outbox::publisher::http::Endpoint::builder(url, signer(&[1]));
    endpoint.allow_http().timeout(Duration::from_secs(10))
}

/// A publisher to `url` on 127.0.0.1.
pub(crate) fn publisher(url: &str) -> HttpPublisher {
    publisher_of(endpoint(url))
}

pub(crate) fn publisher_of(endpoint: EndpointBuilder) -> HttpPublisher {
    let client = client(only(&["127.0.0.1"]));
    let publisher = HttpPublisher::new(&client, endpoint.build().unwrap()).unwrap();
    publisher.with_wall_clock(|| at(NOW))
}

pub(crate) async fn publish(publisher: &HttpPublisher, id: &str) -> Result<(), PublishError> {
    let mut answers = publisher.publish(&[delivery(id)]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub(crate) async fn kind(publisher: &HttpPublisher) -> Option<PublishErrorKind> {
    publish(publisher, "m-1")
        .await
        .err()
        .map(|error| error.kind())
}
