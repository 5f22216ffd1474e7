//! RabbitMQ, which takes seconds to start: all that holds for a server, of one that is started once.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use buttress_testkit::{
    eventually::eventually_as,
    left_out::LeftOut,
    rabbitmq::{self, Server},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Says the protocol's first word. Whoever speaks AMQP 0-9-1 answers with the method
/// `connection.start` on channel 0.
fn greet(server: &Server) -> std::io::Result<[u8; 11]> {
    let url = server.url();
    let (_, address) = url.rsplit_once('@').unwrap();
    let mut stream = TcpStream::connect(address.split('/').next().unwrap())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut answer = [0; 11];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn assert_speaks(server: &Server) {
    let answer = greet(server).unwrap();
    assert_eq!(&answer[..3], [1, 0, 0], "a method, on channel 0");
    assert_eq!(&answer[7..], [0, 10, 0, 10], "connection.start");
}

/// The processes that have their home in this directory: the server's, and those it has started.
fn processes(directory: &Path) -> Vec<String> {
    let home = format!("HOME={}", directory.display());
    let has = |environment: &[u8]| {
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == home.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter(|entry| fs::read(entry.path().join("environ")).is_ok_and(|it| has(&it)))
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

#[tokio::test]
async fn a_rabbitmq_survives_a_kill_and_leaves_nothing_behind() {
    if let Err(not_found) = rabbitmq::find() {
        return LeftOut::new("tests of private rabbitmq servers", not_found.to_string()).register();
    }
    let server = Server::start().unwrap();
    let directory = server.directory().to_path_buf();
    assert_speaks(&server);
    let before = processes(&directory);
    assert!(
        before.iter().any(|name| name.contains("beam")),
        "{before:?}"
    );
    assert!(!before.iter().any(|name| name == "epmd"), "{before:?}");

    let pid = server.pid();
    server.kill();
    greet(&server).unwrap_err();
    eventually_as("all its processes end", PATIENCE, || async {
        let left = processes(&directory);
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(" "))
        }
    })
    .await;
    server.restart().unwrap();
    assert_ne!(server.pid(), pid);
    assert_speaks(&server);

    drop(server);
    eventually_as("it leaves nothing behind", PATIENCE, || async {
        let left = processes(&directory);
        if left.is_empty() && !directory.exists() {
            Ok(())
        } else {
            Err(left.join(" "))
        }
    })
    .await;
}
