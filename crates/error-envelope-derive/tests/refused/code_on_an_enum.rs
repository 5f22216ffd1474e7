//! A code is that of a variant.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
#[problem(code = "CLOSED", status = 400, message = "Closed.")]
enum OrderError {
    #[error("closed")]
    #[problem(internal)]
    Closed,
}

fn main() {}
