//! Codes of what?

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.", codes = CODES)]
    Closed,
}

fn main() {}
