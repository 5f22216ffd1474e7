//! The demonstration, run as a newcomer runs it; and with several instances, on each database.

use std::{fs, process::Command, time::Duration};

use buttress_testkit::{eventually, redis, short_or_long};
use futures_util::future::join_all;

use crate::shop::{Database, Shop, two_of};

/// Longer than a loaded machine takes to start or end two instances.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_demo_ends_with_zero_and_a_table() {
    let demo = Command::new(env!("CARGO_BIN_EXE_storefront"))
        .arg("demo")
        .output()
        .unwrap();
    let told = String::from_utf8(demo.stdout).unwrap();
    assert!(demo.status.success(), "{told}");
    for part in [
        "What the customers saw",
        "What must hold",
        "│ held",
        "Every invariant held.",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("BROKEN"), "{told}");
}

/// Three instances that are killed, stopped and cut off, for a while.
fn broken(database: Option<&Database>, redis_url: Option<&str>) -> String {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_storefront"));
    demo.args(["demo", "--instances", "3", "--seconds"])
        .arg(short_or_long(8, 240).to_string())
        .envs(database.map(|it| ("STOREFRONT_DEMO_DATABASE_URL", it.url())))
        .envs(redis_url.map(|url| ("STOREFRONT_DEMO_REDIS_URL", url)));
    let demo = demo.output().unwrap();
    let told = String::from_utf8(demo.stdout).unwrap();
    let log = String::from_utf8_lossy(&demo.stderr);
    assert!(demo.status.success(), "{told}{log}");
    assert!(told.contains("Every invariant held."), "{told}{log}");
    told
}

#[test]
fn three_instances_that_are_broken_on_purpose_keep_every_invariant() {
    let told = broken(None, None);
    assert!(told.contains("a file: nothing to cut"), "{told}");
    if redis::find().is_ok() {
        assert!(
            told.contains("Redis is cut off, silent, and killed"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn three_instances_on_a_database_that_is_cut_off_keep_every_invariant() {
    // A Redis that was given is cut off and not restarted; the second database has none given.
    let given = redis::find()
        .is_ok()
        .then(|| redis::Server::start().unwrap());
    let servers = Database::servers().await.into_iter();
    let each = servers.zip([given, None]).map(|(database, given)| async {
        let demo = tokio::task::spawn_blocking(move || {
            let url = given.as_ref().map(redis::Server::url);
            let told = broken(Some(&database), url.as_deref());
            assert_eq!(
                told.contains("it is not restarted"),
                given.is_some(),
                "{told}"
            );
            (told, database)
        });
        let (told, database) = demo.await.unwrap();
        assert!(
            told.contains("the database is cut off, and silent"),
            "{told}"
        );
        database.close().await;
    });
    join_all(each).await;
}

#[tokio::test]
async fn a_database_with_orders_is_refused_and_left_alone() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        let id = shop.accepted("k", &two_of("p1")).await;
        let settled = shop.settled(&id).await;
        for several in [&[][..], &["--instances", "2"]] {
            let refused = Command::new(env!("CARGO_BIN_EXE_storefront"))
                .arg("demo")
                .args(several)
                .env("STOREFRONT_DEMO_DATABASE_URL", database.url())
                .output()
                .unwrap();
            assert!(!refused.status.success());
            assert!(refused.stdout.is_empty());
            let log = String::from_utf8(refused.stderr).unwrap();
            assert!(log.contains("there are orders in this database"), "{log}");
        }
        let orders = shop.all("orders").await;
        assert_eq!(orders, [settled]);
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn the_instances_of_a_demo_that_is_killed_end_with_it() {
    // A killed one cannot remove its folder.
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_storefront"))
        .env("TMPDIR", folder.path())
        .args(["demo", "--instances", "2", "--seconds", "600"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let id = demo.id();
    let instances = eventually("both are up", PATIENCE, async || {
        let instances = serving(&children(id));
        (instances.len() == 2).then_some(instances)
    });
    let instances = instances.await;
    demo.kill().unwrap();
    demo.wait().unwrap();
    let gone = eventually("both are gone", PATIENCE, async || {
        serving(&instances).is_empty().then_some(())
    });
    gone.await;
}

fn children(of: u32) -> Vec<u32> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{of}/task")).unwrap().flatten() {
        let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(
            listed
                .split_whitespace()
                .filter_map(|id| id.parse::<u32>().ok()),
        );
    }
    all
}

/// Those of them that are instances.
fn serving(processes: &[u32]) -> Vec<u32> {
    let serves = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("\0serve\0")
    };
    processes.iter().copied().filter(serves).collect()
}
