//! Constants are not known yet.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = http::NOT_FOUND, message = "Closed.")]
    Closed,
}

fn main() {}
