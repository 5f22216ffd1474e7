//! `Display` is for the log, so the message is said.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 404)]
    Closed,
}

fn main() {}
