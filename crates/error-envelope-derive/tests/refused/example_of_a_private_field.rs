//! An example of what is not shown.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.")]
    Closed {
        #[problem(example = 3)]
        hours: u8,
    },
}

fn main() {}
