//! Real connections: each applies the layer anew, and many send the same key at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, routing::post};
use buttress_testkit::{seed::Seed, tier::short_or_long};
use rand::RngExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::stand::Stand;

/// What was answered: status, headers, body.
struct Raw {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

async fn send(port: u16, key: &str, body: &str) -> Raw {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "POST /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    Raw {
        status,
        headers: lines.map(header).collect(),
        body: answer[end + 4..].to_vec(),
    }
}

#[tokio::test]
async fn the_same_key_from_many_connections_has_one_effect_and_one_answer() {
    let stand = Stand::patient();
    let effects: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let counted = Arc::clone(&effects);
    let random = Arc::new(Mutex::new(Seed::new().rng()));
    let place = post(move |body: Bytes| async move {
        let order = String::from_utf8(body.to_vec()).unwrap();
        *counted.lock().unwrap().entry(order).or_default() += 1;
        // Until now nothing was written; a duplicate comes in the middle.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let unique: u64 = random.lock().unwrap().random();
        (
            [("location", format!("/orders/{unique}"))],
            format!("order {unique}"),
        )
    });
    let app = Router::new().route("/orders", place).layer(stand.layer());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async { axum::serve(listener, app).await });

    let keys = short_or_long(100, 10_000);
    let mut clients = JoinSet::new();
    for key in 0..keys {
        for client in 0..5 {
            clients.spawn(async move {
                let quoted = if client % 2 == 0 {
                    format!("\"{key}\"")
                } else {
                    key.to_string()
                };
                loop {
                    let answer = send(port, &quoted, &key.to_string()).await;
                    if answer.status != 409 {
                        return (key, answer);
                    }
                    assert_eq!(answer.headers["retry-after"], "1");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        // Not all at once: a machine has only so many ports.
        if key % 20 == 19 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut answers: HashMap<u32, Vec<Raw>> = HashMap::new();
    while let Some(answered) = clients.join_next().await {
        let (key, answer) = answered.unwrap();
        answers.entry(key).or_default().push(answer);
    }
    for (key, answers) in &answers {
        assert_eq!(effects.lock().unwrap()[&key.to_string()], 1, "one effect");
        let firsts = answers
            .iter()
            .filter(|it| !it.headers.contains_key("idempotency-replayed"));
        assert_eq!(firsts.count(), 1, "one first answer");
        for answer in answers {
            assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
            assert_eq!(answer.headers["location"], answers[0].headers["location"]);
            assert_eq!(
                answer.headers["content-length"],
                answers[0].body.len().to_string()
            );
        }
    }
    assert_eq!(answers.len(), usize::try_from(keys).unwrap());
    server.abort();
}
