//! What Redis says.

use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError,
    aio::{ConnectionLike, MultiplexedConnection},
};
use buttress_store::{Deadline, Phase, StoreError};
use buttress_testkit::{
    proxy::{Cut, Proxy},
    redis::{Server, StartError},
};

use super::{Table, disturb};

/// A command in words, as one types it.
fn command(words: &str) -> Cmd {
    let mut command = Cmd::new();
    for word in words.split(' ') {
        command.arg(word);
    }
    command
}

async fn say<T: FromRedisValue>(
    connection: &mut (impl ConnectionLike + Send),
    words: &str,
) -> Result<T, RedisError> {
    command(words).query_async(connection).await
}

async fn connect(url: &str) -> Result<MultiplexedConnection, RedisError> {
    // No patience of the client's own: the deadline is ours.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = Client::open(url)?;
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

#[tokio::test]
async fn every_row_of_the_table_is_said_by_redis() {
    let _tally = buttress_testkit::tally::suite("RB2");
    let patience = Duration::from_secs(120);
    tokio::time::timeout(patience, every_row()).await.unwrap();
}

async fn every_row() {
    let server = match Server::start() {
        Ok(server) => server,
        Err(StartError::NotFound(_)) => return, // the tests of the scripts say so
        Err(error) => panic!("{error}"),
    };
    let mut table = Table::of("Redis");
    let url = server.url();
    let mut one = connect(&url).await.unwrap();

    table.saw(
        "nobody listens",
        Phase::Connect,
        connect("redis://127.0.0.1:1/").await,
    );
    let operator = one.clone();
    let ok = async |words: &str| {
        say::<()>(&mut operator.clone(), words).await.unwrap();
    };
    ok("ACL SETUSER weak on >word ~* +get").await;
    ok("SET text x").await;
    let host = url.trim_start_matches("redis://").trim_end_matches('/');
    let wrong = connect(&format!("redis://weak:wrong@{host}/")).await;
    table.saw("a wrong password", Phase::Connect, wrong);

    for (how, words) in [
        (
            "a script that is not there",
            "EVALSHA 0000000000000000000000000000000000000000 0",
        ),
        ("a command on a key of another type", "LPUSH text x"),
        ("a command that is absent", "NONSENSE"),
        ("a value that is no number", "INCR text"),
        ("an error in a script", "EVAL error('x') 0"),
    ] {
        table.saw(how, Phase::Statement, say::<()>(&mut one, words).await);
    }
    let mut weak = connect(&url).await.unwrap();
    say::<()>(&mut weak, "AUTH weak word").await.unwrap();
    table.saw(
        "a right that is missing",
        Phase::Statement,
        say::<()>(&mut weak, "SET text y").await,
    );
    ok("ACL SETUSER default resetpass").await;
    ok("ACL SETUSER default >pass").await;
    let mut stranger = connect(&url).await;
    if let Ok(connection) = &mut stranger {
        let said = say::<()>(connection, "GET text").await;
        table.saw("no login", Phase::Statement, said);
    } else {
        table.saw("no login", Phase::Connect, stranger);
    }
    ok("ACL SETUSER default nopass").await;

    ok("CONFIG SET maxmemory 1").await;
    table.saw(
        "memory is full",
        Phase::Statement,
        say::<()>(&mut one, "SET more x").await,
    );
    ok("CONFIG SET maxmemory 0").await;
    ok("CONFIG SET min-replicas-to-write 1").await;
    table.saw(
        "too few replicas",
        Phase::Statement,
        say::<()>(&mut one, "SET more x").await,
    );
    ok("CONFIG SET min-replicas-to-write 0").await;
    ok("REPLICAOF 127.0.0.1 1").await;
    table.saw(
        "a replica",
        Phase::Statement,
        say::<()>(&mut one, "SET more x").await,
    );
    ok("CONFIG SET replica-serve-stale-data no").await;
    table.saw(
        "a replica without its master",
        Phase::Read,
        say::<()>(&mut one, "GET text").await,
    );
    ok("REPLICAOF NO ONE").await;

    // A script without end: others are told that it is busy, and it can be killed.
    ok("CONFIG SET busy-reply-threshold 20").await;
    let mut two = connect(&url).await.unwrap();
    let endless = tokio::spawn(async move {
        let mut endless = ::redis::cmd("EVAL");
        endless.arg("while true do end").arg(0);
        endless.query_async::<()>(&mut two).await
    });
    let busy = loop {
        match say::<()>(&mut one, "SET more x").await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    table.saw::<(), _>("a script that does not end", Phase::Statement, Err(busy));
    say::<()>(&mut one, "SCRIPT KILL").await.unwrap();
    table.saw(
        "a script that was killed",
        Phase::Statement,
        endless.await.unwrap(),
    );

    ok("CONFIG SET maxclients 1").await;
    let mut many = Vec::new();
    let full = loop {
        match connect(&url).await {
            Ok(mut another) => match say::<()>(&mut another, "GET text").await {
                Ok(()) => many.push(another),
                Err(error) => break error,
            },
            Err(error) => break error,
        }
    };
    table.saw::<(), _>("too many connections", Phase::Connect, Err(full));
    drop(many);
    ok("CONFIG SET maxclients 100").await;

    let (proxy, through) = Proxy::before(&format!("redis://{host}/0")).await.unwrap();
    for (how, cut) in [
        ("cut before it was heard", Some(Cut::Before)),
        ("cut after it was heard", Some(Cut::Answer)),
        ("a black hole", None),
    ] {
        proxy.heal().await.unwrap();
        let mut third = connect(&through).await.unwrap();
        disturb(&proxy, "SET", cut);
        let deadline = Deadline::after(Duration::from_millis(300));
        let get = command("SET text z");
        let said: Result<(), StoreError> = deadline
            .run(Phase::Statement, get.query_async(&mut third))
            .await;
        table.saw(how, Phase::Statement, said);
    }
    table.compare();
}
