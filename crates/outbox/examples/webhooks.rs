//! A webhook from a publisher to a receiver on this host: signed, verified, handled; and a forged
//! one that is not.

use axum::{Extension, Router, body::Bytes, routing::post};
use buttress_outbox::{
    Delivery, Message, Publisher,
    publisher::http::{Addresses, Endpoint, HttpClient, HttpPublisher},
    tower::{Webhook, WebhookLayer},
    webhook::{Secret, Signer, Verifier},
};
use tokio::net::TcpListener;

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn handle(Extension(webhook): Extension<Webhook>, body: Bytes) {
    // A real handler takes the id once, in the transaction of what it does.
    let body = String::from_utf8_lossy(&body);
    println!("received {}: {body}", webhook.id());
}

/// A receiver behind the layer, and where it listens.
async fn receiver(secret: Secret) -> Result<String, Box<dyn std::error::Error>> {
    let layer = WebhookLayer::new(Verifier::new([secret])?);
    let app = Router::new().route("/hooks", post(handle)).layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hooks", listener.local_addr()?);
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(url)
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
#[expect(
    clippy::disallowed_methods,
    reason = "the relay knows when a message was appended; here there is none"
)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = Secret::generate();
    let url = receiver(secret.clone()).await?;

    // Only the public internet may be connected to, unless it is said: here, this host.
    let addresses = Addresses::public().allow("127.0.0.1/32".parse()?);
    let client = HttpClient::builder().addresses(addresses).build()?;
    let endpoint = Endpoint::builder(&url, Signer::new([secret])?).allow_http();
    let publisher = HttpPublisher::new(&client, endpoint.build()?)?;

    let message = Message::builder("orders", "/shop", "order.placed")
        .key("order 7")
        .json(&["one apple"])
        .build()?;
    let batch = [Delivery::new(message, 1, 1, std::time::SystemTime::now())];
    println!("sent: {:?}", publisher.publish(&batch).await);

    publisher.set_signer(Signer::new([Secret::generate()])?);
    println!("forged: {:?}", publisher.publish(&batch).await);
    Ok(())
}
