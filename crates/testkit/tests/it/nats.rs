//! A NATS server that stands still, and one that is killed with what it holds.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

use buttress_testkit::nats::Server;

use crate::kind::NATS;

/// What the server answers to a request, without a driver.
fn ask(server: &Server, subject: &str, payload: &str) -> std::io::Result<String> {
    let url = server.url();
    let mut stream = TcpStream::connect(url.trim_start_matches("nats://"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = payload.len();
    let said = format!("CONNECT {{}}\r\nSUB me 1\r\nPUB {subject} me {length}\r\n{payload}\r\n");
    stream.write_all(said.as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next() {
        if line?.starts_with("MSG me") {
            return lines.next().unwrap();
        }
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

#[test]
fn what_nats_confirmed_survives_its_kill() {
    if !NATS.is_here() {
        return;
    }
    let server = Server::start().unwrap();
    let config = r#"{"name":"it","subjects":["it"],"storage":"file"}"#;
    let made = ask(&server, "$JS.API.STREAM.CREATE.it", config).unwrap();
    assert!(!made.contains("error"), "{made}");
    for number in 1..=100 {
        let confirm = ask(&server, "it", "x").unwrap();
        assert!(confirm.contains(&format!("\"seq\":{number}")), "{confirm}");
    }
    server.kill();
    ask(&server, "it", "x").unwrap_err();
    server.restart().unwrap();
    let info = ask(&server, "$JS.API.STREAM.INFO.it", "").unwrap();
    assert!(info.contains("\"messages\":100,"), "{info}");
}

#[test]
fn a_server_that_stands_still_goes_on_where_it_was() {
    if !NATS.is_here() {
        return;
    }
    let server = Server::start().unwrap();
    server.pause();
    let url = server.url();
    // The system takes the connection; the server does not speak.
    let stream = TcpStream::connect(url.trim_start_matches("nats://")).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap_err();
    server.resume();
    reader.get_ref().set_nonblocking(false).unwrap();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("INFO "), "{line}");
    server.pause();
    server.kill();
}
