//! What no single crate can prove: breaker, retry, time limits and limits around one another, and
//! how what they refuse leaves, over real HTTP; an invalidation that goes through the outbox; and the
//! whole house on one database: one commit, old schemas, clocks that jump; what libFuzzer found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "real sockets live in real time")]

// Its macro is that of the targets' name here.
extern crate buttress_tests as libfuzzer_sys;

mod clocks;

mod crashes;
mod house;
mod invalidation;
mod kept_inputs;
mod leaving;
mod old_schemas;
mod one_commit;
mod soak;
mod stacks;
mod target;
