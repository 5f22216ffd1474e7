//! `{}` names nothing.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 404, message = "Closed for {}.")]
    Closed(#[problem(public)] u8),
}

fn main() {}
