//! The demonstration.

use std::process::Command;

use crate::place::{Place, URL};

#[test]
fn the_demo_ends_well_with_nothing_installed() {
    let demo = Command::new(env!("CARGO_BIN_EXE_read-model"))
        .args(["demo", "--commands", "200"])
        .env_remove(URL)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{said}");
    assert!(said.contains("folding all commands") && !said.contains("BROKEN"));
}

#[tokio::test]
async fn the_demo_ends_well_on_postgres() {
    let Some(place) = Place::on_postgres().await else {
        return;
    };
    let mut demo = place.program("demo").argument("--commands=200").spawn();
    demo.succeed().await;
}

#[test]
fn a_url_that_cannot_be_read_is_not_shown() {
    for url in ["postgres://:hunter2@:x", "mysql://hunter2@h/d"] {
        let refused = Command::new(env!("CARGO_BIN_EXE_read-model"))
            .arg("show")
            .env(URL, url)
            .output()
            .unwrap();
        assert!(!refused.status.success());
        assert!(!String::from_utf8_lossy(&refused.stderr).contains("hunter2"));
    }
}
