//! The fault proxy does what it says to a server that repeats what it hears.

use std::{io::ErrorKind, time::Duration};

use buttress_testkit::proxy::{Cut, Proxy, Way};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};

/// Long enough for what comes, and waited out in full by what must not come.
const QUIET: Duration = Duration::from_millis(100);

/// A proxy before a server that repeats each piece, and what that server hears.
async fn before_an_echo() -> (Proxy, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap().to_string();
    let (hears, heard) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let hears = hears.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    hears.send(buffer[..length].to_vec()).await.unwrap();
                    if stream.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (Proxy::start(upstream).await.unwrap(), heard)
}

async fn client(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn ask(stream: &mut TcpStream, words: &str) -> std::io::Result<String> {
    stream.write_all(words.as_bytes()).await?;
    let mut answer = vec![0; words.len()];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 64];
    matches!(stream.read(&mut buffer).await, Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_healthy_proxy_passes_everything_on_and_counts() {
    let (proxy, _heard) = before_an_echo().await;
    let mut one = client(&proxy).await;
    assert_eq!(ask(&mut one, "hello").await.unwrap(), "hello");
    let mut other = client(&proxy).await;
    assert_eq!(ask(&mut other, "you").await.unwrap(), "you");
    assert_eq!(proxy.connections(), 2);
    assert_eq!(proxy.bytes(Way::ToServer), 8);
    assert_eq!(proxy.bytes(Way::ToClient), 8);
    // A last word is passed on as one, and not as a reset.
    one.shutdown().await.unwrap();
    assert_eq!(one.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_refusing_proxy_refuses_new_connections_alone_until_it_heals() {
    let (proxy, _heard) = before_an_echo().await;
    let mut open = client(&proxy).await;
    assert_eq!(ask(&mut open, "before").await.unwrap(), "before");
    for _ in 0..20 {
        proxy.refuse().await.unwrap();
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ask(&mut open, "still").await.unwrap(), "still");
        proxy.heal().await.unwrap();
        let mut late = client(&proxy).await;
        assert_eq!(ask(&mut late, "late").await.unwrap(), "late");
    }
}

#[tokio::test]
async fn a_cut_resets_all_that_is_open_and_nothing_later() {
    let (proxy, _heard) = before_an_echo().await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(client(&proxy).await);
    }
    assert_eq!(ask(&mut open[0], "x").await.unwrap(), "x");
    proxy.cut().await;
    for stream in &mut open {
        assert!(is_reset(stream).await);
    }
    let mut late = client(&proxy).await;
    assert_eq!(ask(&mut late, "late").await.unwrap(), "late");
}

#[tokio::test]
async fn a_server_that_is_gone_resets_the_client() {
    let proxy = Proxy::start("127.0.0.1:1").await.unwrap();
    let mut stream = client(&proxy).await;
    assert!(is_reset(&mut stream).await);
}

#[tokio::test]
async fn a_black_hole_keeps_one_way_back_until_it_heals() {
    for way in [Way::ToServer, Way::ToClient] {
        let (proxy, mut heard) = before_an_echo().await;
        let mut open = client(&proxy).await;
        assert_eq!(ask(&mut open, "x").await.unwrap(), "x");
        heard.recv().await.unwrap();
        proxy.black_hole(way);
        let mut new = client(&proxy).await;
        for stream in [&mut open, &mut new] {
            timeout(QUIET, ask(stream, "lost?")).await.unwrap_err();
        }
        let arrived = heard.try_recv().is_ok();
        assert_eq!(arrived, way == Way::ToClient);
        proxy.heal().await.unwrap();
        for stream in [&mut open, &mut new] {
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"lost?");
        }
    }
}

#[tokio::test]
async fn a_delay_holds_each_piece_back_and_healing_lets_it_go() {
    let (proxy, _heard) = before_an_echo().await;
    let mut stream = client(&proxy).await;
    proxy.delay(Way::ToServer, QUIET);
    proxy.delay(Way::ToClient, QUIET);
    let start = Instant::now();
    ask(&mut stream, "slowly").await.unwrap();
    assert!(start.elapsed() >= 2 * QUIET);
    proxy.delay(Way::ToServer, Duration::from_secs(3600));
    timeout(QUIET, ask(&mut stream, "never")).await.unwrap_err();
    proxy.heal().await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"never");
}

#[tokio::test]
async fn a_slow_way_has_its_rate_and_healing_lets_it_run() {
    let (proxy, _heard) = before_an_echo().await;
    let mut stream = client(&proxy).await;
    proxy.slow(Way::ToClient, 1000);
    let start = Instant::now();
    ask(&mut stream, &"x".repeat(200)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
    proxy.slow(Way::ToClient, 0);
    timeout(QUIET, ask(&mut stream, "never")).await.unwrap_err();
    assert_eq!(proxy.bytes(Way::ToClient), 201);
    proxy.heal().await.unwrap();
    let mut rest = [0; 4];
    stream.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"ever");
}

#[tokio::test]
async fn a_connection_is_cut_at_every_byte_of_an_answer() {
    let (proxy, _heard) = before_an_echo().await;
    for byte in 0..10 {
        let mut stream = client(&proxy).await;
        proxy.cut_after(Way::ToClient, byte);
        let before = proxy.bytes(Way::ToClient);
        stream.write_all(b"0123456789").await.unwrap();
        proxy.until_struck(byte + 1).await;
        assert_eq!(proxy.bytes(Way::ToClient) - before, byte);
        // A reset may overtake what was sent before it.
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        assert!(b"0123456789".starts_with(&answer));
    }
}

#[tokio::test]
async fn a_pattern_cuts_before_during_or_after_it_was_done() {
    let (proxy, mut heard) = before_an_echo().await;
    for (times, cut) in [(1, Cut::Before), (2, Cut::During), (3, Cut::Answer)] {
        let mut stream = client(&proxy).await;
        let mut other = client(&proxy).await;
        proxy.cut_at(Way::ToServer, "COMMIT", cut);
        assert_eq!(ask(&mut stream, "COMM").await.unwrap(), "COMM");
        heard.recv().await.unwrap();
        stream.write_all(b"IT").await.unwrap();
        proxy.until_struck(times).await;
        assert!(is_reset(&mut stream).await, "{cut:?}");
        match cut {
            Cut::Before => assert!(heard.try_recv().is_err()),
            // The server's own socket decides.
            Cut::During => {}
            _ => assert_eq!(heard.recv().await.unwrap(), b"IT"),
        }
        assert_eq!(ask(&mut other, "COMMIT").await.unwrap(), "COMMIT", "once");
        while heard.try_recv().is_ok() {}
    }
    assert_eq!(proxy.struck(), 3);
}

#[tokio::test]
async fn a_dropped_proxy_resets_its_connections_and_leaves_its_port() {
    let (proxy, _heard) = before_an_echo().await;
    let address = proxy.address();
    let mut stream = client(&proxy).await;
    assert_eq!(ask(&mut stream, "x").await.unwrap(), "x");
    drop(proxy);
    assert!(is_reset(&mut stream).await);
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn a_url_leads_through_the_proxy_to_where_it_led() {
    let (proxy, url) = Proxy::before("postgres://me:secret@127.0.0.1:1/db?x=y")
        .await
        .unwrap();
    let expected = format!("postgres://me:secret@{}/db?x=y", proxy.address());
    assert_eq!(url, expected);
    for bad in ["postgres:///db", "ftp://host", "nothing"] {
        let error = Proxy::before(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
}
