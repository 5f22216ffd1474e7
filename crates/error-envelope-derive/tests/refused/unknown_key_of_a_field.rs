//! A key that fields do not have.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.")]
    Closed {
        #[problem(show)]
        hours: u8,
    },
}

fn main() {}
