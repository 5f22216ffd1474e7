//! 200 is no error.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 200, message = "Closed.")]
    Closed,
}

fn main() {}
