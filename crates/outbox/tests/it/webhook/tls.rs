//! Endpoints of `https`.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use buttress_outbox::{
    PublishErrorKind,
    publisher::http::{Endpoint, HttpClient, HttpPublisher, Resolve, rustls::ClientConfig},
};
use rcgen::CertifiedKey;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, crypto::ring, pki_types::CertificateDer},
};

use super::stand::{kind, only, signer};

struct Here;

#[async_trait::async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![[127, 0, 0, 1].into()])
    }
}

/// A server with a certificate for `hooks.example.com`, that answers 200 and can speak HTTP/2 too.
async fn server() -> (CertificateDer<'static>, u16) {
    let names = vec!["hooks.example.com".to_owned()];
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = cert.der().clone();
    let key = signing_key.serialize_der().try_into().unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap_or_default();
            let post = request[..read].starts_with(b"POST ");
            let status = if post { 200 } else { 400 };
            let answer = format!("HTTP/1.1 {status} Said\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (certificate, port)
}

fn config(roots: &[CertificateDer<'static>]) -> ClientConfig {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn publisher(config: ClientConfig, host: &str, port: u16) -> HttpPublisher {
    let client = HttpClient::builder()
        .addresses(only(&["127.0.0.1"]))
        .resolver(Here)
        .tls(config)
        .build()
        .unwrap();
    let endpoint = Endpoint::builder(format!("https://{host}:{port}/"), signer(&[1]))
        .timeout(Duration::from_secs(10))
        .build();
    HttpPublisher::new(&client, endpoint.unwrap()).unwrap()
}

#[tokio::test]
async fn only_a_server_with_the_right_certificate_gets_a_message() {
    let (certificate, port) = server().await;
    let trusting = || config(std::slice::from_ref(&certificate));
    let right = publisher(trusting(), "hooks.example.com", port);
    assert_eq!(kind(&right).await, None);
    for wrong in [
        publisher(trusting(), "other.example.com", port),
        publisher(trusting(), "127.0.0.1", port),
        publisher(config(&[]), "hooks.example.com", port),
    ] {
        let error = super::stand::publish(&wrong, "m-1").await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Down);
        assert!(error.reason().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 Fine\r\n\r\n").await;
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received).await;
        received
    });
    let publisher = publisher(config(&[]), "hooks.example.com", port);
    assert_eq!(kind(&publisher).await, Some(PublishErrorKind::Down));
    let received = server.await.unwrap();
    let posted = received.windows(4).any(|it| it == b"POST");
    assert!(!posted);
}
