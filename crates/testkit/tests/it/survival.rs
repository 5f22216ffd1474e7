//! What a server has acknowledged is there after it was killed, stopped, or lost a backend.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use buttress_testkit::{
    eventually::eventually_as,
    mysql,
    postgres::{self, Stop},
    redis,
};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection};

use crate::kind::{MYSQL, POSTGRES, REDIS};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_postgres_committed_survives_every_way_to_end_it() -> Result<(), sqlx::Error> {
    if !POSTGRES.is_here() {
        return Ok(());
    }
    let server = postgres::Server::start().unwrap();
    let url = server.url("postgres");
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::raw_sql("CREATE TABLE kept (id INT)")
        .execute(&mut connection)
        .await?;
    let ends: [&dyn Fn(); 3] = [&|| server.kill(), &|| server.stop(Stop::Immediate), &|| {
        server.stop(Stop::Fast);
    }];
    for (number, end) in (1_i64..).zip(ends) {
        let insert = format!("INSERT INTO kept VALUES ({number})");
        sqlx::raw_sql(AssertSqlSafe(insert))
            .execute(&mut connection)
            .await?;
        end();
        connection.ping().await.unwrap_err();
        server.restart().unwrap();
        connection = PgConnection::connect(&url).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM kept")
            .fetch_one(&mut connection)
            .await?;
        assert_eq!(count, number);
    }
    Ok(())
}

#[tokio::test]
async fn postgres_comes_back_by_itself_after_a_killed_backend() -> Result<(), sqlx::Error> {
    if !POSTGRES.is_here() {
        return Ok(());
    }
    let server = postgres::Server::start().unwrap();
    let url = server.url("postgres");
    let mut victim = PgConnection::connect(&url).await?;
    let mut other = PgConnection::connect(&url).await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut victim)
        .await?;
    server.kill_backend(backend.try_into().unwrap());
    victim.ping().await.unwrap_err();
    eventually_as(
        "its sessions are ended as well",
        PATIENCE,
        async || match other.ping().await {
            Ok(()) => Err("one still answers"),
            Err(_) => Ok(()),
        },
    )
    .await;
    let again = eventually_as("it accepts connections again", PATIENCE, async || {
        PgConnection::connect(&url).await
    });
    again.await.close().await
}

#[tokio::test]
async fn what_mariadb_committed_survives_every_way_to_end_it() -> Result<(), sqlx::Error> {
    if !MYSQL.is_here() {
        return Ok(());
    }
    let server = mysql::Server::start().unwrap();
    let url = server.url("mysql");
    let mut connection = MySqlConnection::connect(&url).await?;
    sqlx::raw_sql("CREATE DATABASE room; CREATE TABLE room.kept (id INT) ENGINE = InnoDB")
        .execute(&mut connection)
        .await?;
    let ends: [&dyn Fn(); 3] = [&|| server.kill(), &|| server.stop(), &|| server.kill()];
    for (number, end) in (1_i64..).zip(ends) {
        let insert = format!("INSERT INTO room.kept VALUES ({number})");
        sqlx::raw_sql(AssertSqlSafe(insert))
            .execute(&mut connection)
            .await?;
        end();
        connection.ping().await.unwrap_err();
        server.restart().unwrap();
        connection = MySqlConnection::connect(&url).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM room.kept")
            .fetch_one(&mut connection)
            .await?;
        assert_eq!(count, number);
    }
    Ok(())
}

/// The first line of Redis's answer to `command`, and of a value its text.
fn ask(server: &redis::Server, command: &str) -> String {
    let url = server.url();
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{command}\r\n").unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    if let Some(length) = line.trim().strip_prefix('$').and_then(|it| it.parse().ok()) {
        let mut value = vec![0; length];
        answer.read_exact(&mut value).unwrap();
        line = String::from_utf8(value).unwrap();
    }
    line.trim().to_owned()
}

#[test]
fn redis_keeps_what_it_acknowledged_when_it_appends_and_forgets_it_otherwise() {
    if !REDIS.is_here() {
        return;
    }
    for (start, kept) in [
        (redis::Server::start_appending as fn() -> _, "500"),
        (redis::Server::start, "$-1"),
    ] {
        let server: redis::Server = start().unwrap();
        for number in 1..=500 {
            assert_eq!(ask(&server, &format!("SET it {number}")), "+OK");
        }
        server.kill();
        server.restart().unwrap();
        assert_eq!(ask(&server, "GET it"), kept);
    }
}

#[tokio::test]
async fn a_replica_follows_refuses_writes_and_finds_its_restarted_server_again() {
    if !REDIS.is_here() {
        return;
    }
    let server = redis::Server::start_appending().unwrap();
    assert_eq!(ask(&server, "SET before 1"), "+OK");
    let replica = server.start_replica().unwrap();
    assert_eq!(ask(&replica, "GET before"), "1", "it has its copy");
    assert!(ask(&replica, "SET it 1").starts_with("-READONLY"));
    for (key, restarts) in [("it", false), ("after", true)] {
        if restarts {
            server.kill();
            assert_eq!(ask(&replica, "GET before"), "1", "it answers alone");
            server.restart().unwrap();
        }
        assert_eq!(ask(&server, &format!("SET {key} 2")), "+OK");
        eventually_as("the replica follows", PATIENCE, async || {
            match ask(&replica, &format!("GET {key}")).as_str() {
                "2" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
    }
}
