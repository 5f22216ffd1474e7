//! Bodies that come over a wire: whole, too long, broken off, never ending.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use buttress_core::{Class, Classify, Fault};
use buttress_error_envelope::client::{
    ByRemote, MAX_REMOTE_BODY, RemoteForm, RemoteProblem, check,
    reqwest::{self as remote, RemoteError},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Response;
use http_body::{Body, Frame};
use http_body_util::{Full, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const PROBLEM: &str = r#"{"title":"Gone","code":"SOLD_OUT"}"#;

fn gone<B>(body: B) -> Response<B> {
    let response = Response::builder().status(410);
    let response = response.header("content-type", "application/problem+json");
    response.body(body).unwrap()
}

async fn of<B: Body>(body: B) -> RemoteProblem {
    match check(gone(body)).await {
        Err(problem) => problem,
        Ok(_) => panic!("410 is an error"),
    }
}

fn in_pieces(pieces: Vec<Result<Bytes, io::Error>>) -> impl Body<Data = Bytes> {
    StreamBody::new(stream::iter(pieces).map(|piece| piece.map(Frame::data)))
}

#[tokio::test]
async fn a_body_is_put_together_whatever_its_pieces() {
    let bytes = PROBLEM
        .bytes()
        .map(|byte| Ok(Bytes::copy_from_slice(&[byte])));
    for body in [
        bytes.collect(),
        vec![Ok(PROBLEM.into())],
        vec![Ok("".into()), Ok(PROBLEM.into())],
    ] {
        let problem = of(in_pieces(body)).await;
        assert_eq!(problem.code(), Some("SOLD_OUT"));
        assert!(problem.is_complete());
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_or_breaks_off_leaves_the_status() {
    let piece = || Ok::<_, Infallible>(Bytes::from(vec![b' '; 1024]));
    let endless = stream::repeat_with(move || piece().map(Frame::data));
    let problem = of(StreamBody::new(endless)).await;
    assert_eq!(
        (problem.form(), problem.is_complete()),
        (RemoteForm::Unknown, false)
    );

    // Its length is known before: not a byte of it is asked for.
    let problem = of(Full::new(Bytes::from(vec![b' '; MAX_REMOTE_BODY + 1]))).await;
    assert!(!problem.is_complete());

    let broken = vec![Ok(PROBLEM.into()), Err(io::Error::other("reset"))];
    let problem = of(in_pieces(broken)).await;
    assert_eq!((problem.status().as_u16(), problem.code()), (410, None));
    assert!(!problem.is_complete());
}

#[tokio::test]
async fn the_body_of_a_success_is_not_touched() {
    let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
    assert!(check(Response::new(StreamBody::new(never))).await.is_ok());
}

/// Answers each connection with these bytes, and then closes it or holds it.
async fn answers(with: &'static str, close: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(with.as_bytes()).await;
            if !close {
                held.push(stream);
            }
        }
    });
    address
}

fn get(address: SocketAddr) -> reqwest::RequestBuilder {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("http://{address}/orders?token=c4n4ry"))
}

#[tokio::test]
async fn with_reqwest_an_error_is_read_and_a_success_handed_on() {
    let address = answers(
        "HTTP/1.1 503 \r\ncontent-type: application/json\r\nretry-after: 7\r\n\r\n\
         {\"success\":false,\"error\":{\"code\":\"NOT_READY\",\"message\":\"Soon.\"}}",
        true,
    )
    .await;
    let error = remote::send(get(address)).await.unwrap_err();
    let answered = error.answered().unwrap();
    assert_eq!(
        (answered.code(), answered.form()),
        (Some("NOT_READY"), RemoteForm::Envelope)
    );
    let verdict = ByRemote.classify(Err::<&(), _>(&error));
    assert_eq!(verdict.class(), Class::Unknown);
    assert_eq!(verdict.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!((error.status(), Fault::code(&error)), (503, "UNAVAILABLE"));

    let address = answers("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine", true).await;
    let response = remote::send(get(address)).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "fine");
}

#[tokio::test]
async fn with_reqwest_a_body_that_never_ends_is_the_timeouts_and_its_status_stays() {
    let head = "HTTP/1.1 429 \r\ncontent-length: 1000\r\nretry-after: 7\r\n\r\n{\"title\":";
    let address = answers(head, false).await;
    let request = get(address).timeout(Duration::from_millis(300));
    let error = remote::send(request).await.unwrap_err();
    let answered = error.answered().unwrap();
    assert_eq!(
        (answered.status().as_u16(), answered.is_complete()),
        (429, false)
    );
    assert_eq!(error.verdict().class(), Class::NotDone);
}

#[tokio::test]
async fn with_reqwest_what_was_not_answered_is_told_without_its_url() {
    let silent = answers("", false).await;
    let late = get(silent).timeout(Duration::from_millis(100));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    for (request, status, class) in [
        (late, 504, Class::Unknown),
        (get(address), 502, Class::NotDone),
    ] {
        let error = remote::send(request).await.unwrap_err();
        assert_eq!((error.status(), error.verdict().class()), (status, class));
        let shown = format!("{error} {error:?} {}", buttress_core::Chain(&error));
        assert!(!shown.contains("c4n4ry"), "{shown}");
        let RemoteError::NotAnswered(_) = error else {
            panic!("{error:?}")
        };
    }
}
