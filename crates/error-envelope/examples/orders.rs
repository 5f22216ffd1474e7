//! A small service.
fn main() {}
