//! Transparent leaves nothing to say.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(transparent, code = "CLOSED")]
    Closed(std::sync::Arc<OrderError>),
}

fn main() {}
