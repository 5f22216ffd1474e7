//! What judges a store: a suite that every store passes.

mod conformance;

pub use self::conformance::conformance;
