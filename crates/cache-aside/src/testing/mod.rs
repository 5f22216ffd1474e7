//! The suite by which a second level is judged: ours, and a stranger's.

mod lease;
mod store;

pub use self::store::conformance;
