//! Codes are in upper case.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "closed", status = 404, message = "Closed.")]
    Closed,
}

fn main() {}
