//! Which of an error's causes says how it leaves.

use std::{error::Error, io, iter};

use ::tower::{load_shed::error::Overloaded, timeout::error::Elapsed};
use buttress_core::{PublicFault, Rejection, TimedOut};
use http::StatusCode;

#[cfg(feature = "reqwest")]
use crate::client::reqwest::RemoteError;
use crate::{Problem, ToProblem, client::RemoteProblem};

/// More causes than this are not looked at: an error may be its own.
const DEEPEST: usize = 32;

/// Knows one type of error.
pub(super) type Known = fn(&(dyn Error + 'static)) -> Option<Problem>;

/// Knows errors of type `E`.
pub(super) fn known<E: ToProblem + Error + 'static>(
    error: &(dyn Error + 'static),
) -> Option<Problem> {
    error.downcast_ref::<E>().map(ToProblem::to_problem)
}

/// An error and its causes, from the outside in.
pub(super) fn of<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| next(error)).take(DEEPEST)
}

fn next<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // What an `io::Error` was made of is not its source, but it itself.
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The problem that this one error is, if its type is known.
pub(super) fn problem(error: &(dyn Error + 'static), faults: &[Known]) -> Option<Problem> {
    const OURS: [Known; 4] = [
        known::<Rejection>,
        known::<TimedOut>,
        known::<PublicFault>,
        known::<RemoteProblem>,
    ];
    if let Some(known) = faults.iter().chain(&OURS).find_map(|known| known(error)) {
        return Some(known);
    }
    #[cfg(feature = "reqwest")]
    if let Some(known) = known::<RemoteError>(error) {
        return Some(known);
    }
    #[cfg(feature = "reqwest")]
    if let Some(known) = error.downcast_ref().and_then(not_answered) {
        return Some(known);
    }
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return Some(problem.clone());
    }
    let status = if error.is::<Elapsed>() || error.is::<tokio::time::error::Elapsed>() {
        StatusCode::GATEWAY_TIMEOUT
    } else if error.is::<Overloaded>() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        return None;
    };
    Some(Problem::from_status(status))
}

/// The problem that reqwest's own error is, if the service behind has a part in it.
#[cfg(feature = "reqwest")]
fn not_answered(error: &reqwest::Error) -> Option<Problem> {
    let status = if error.is_timeout() {
        StatusCode::GATEWAY_TIMEOUT
    } else if error.is_connect() || error.is_request() || error.is_body() {
        StatusCode::BAD_GATEWAY
    } else {
        return None;
    };
    Some(Problem::from_status(status))
}
