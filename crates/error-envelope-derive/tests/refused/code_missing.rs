//! A status alone is no definition.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(status = 404)]
    Closed,
}

fn main() {}
