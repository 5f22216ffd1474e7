//! Transparent is by one field.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(transparent)]
    Closed(u8, u8),
}

fn main() {}
