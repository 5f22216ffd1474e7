//! A tuple's field has no name.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.")]
    Closed(#[problem(extension)] u8),
}

fn main() {}
