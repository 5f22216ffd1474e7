//! A variant without a word on how it leaves.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    Closed,
}

fn main() {}
