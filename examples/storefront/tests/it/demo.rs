//! The demonstration, run as a newcomer runs it.

use std::process::Command;

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
