//! Transparent shows no field.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(transparent)]
    Closed(#[problem(extension = "hours")] u8),
}

fn main() {}
