//! The message would show what is private.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 404, message = "Closed for {hours}.")]
    Closed { hours: u8 },
}

fn main() {}
