//! What reqwest returns: an answer, the other service's error, or none at all.

use std::{borrow::Cow, time::Duration};

use ::reqwest::{Body, Error, RequestBuilder, Response};
use buttress_core::{Classify, Fault, Verdict, classify::reqwest::by_error};

use super::{ByRemote, RemoteProblem};

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The other service answered with an error.
    #[error("the call was answered with an error")]
    Answered(#[source] RemoteProblem),
    /// No answer came, or not all of it. Without the URL, whose query may hold secrets.
    #[error("the call was not answered")]
    NotAnswered(#[source] Error),
}

impl RemoteError {
    /// What the other service said, if it said anything.
    #[must_use]
    pub const fn answered(&self) -> Option<&RemoteProblem> {
        match self {
            Self::Answered(problem) => Some(problem),
            Self::NotAnswered(_) => None,
        }
    }

    /// What it says to a retry and a breaker: [`RemoteProblem::verdict`], or what
    /// [`ByReqwest`](buttress_core::classify::reqwest::ByReqwest) says of reqwest's own errors.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Answered(problem) => problem.verdict(),
            Self::NotAnswered(error) => by_error(error),
        }
    }
}

impl From<RemoteProblem> for RemoteError {
    fn from(problem: RemoteProblem) -> Self {
        Self::Answered(problem)
    }
}

impl From<Error> for RemoteError {
    fn from(error: Error) -> Self {
        Self::NotAnswered(error.without_url())
    }
}

/// As a [`RemoteProblem`] leaves; where no answer came, 504 `UPSTREAM_TIMEOUT` or 502
/// `UPSTREAM_FAILED`.
impl Fault for RemoteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Answered(problem) => Fault::code(problem),
            Self::NotAnswered(error) if error.is_timeout() => "UPSTREAM_TIMEOUT",
            Self::NotAnswered(_) => "UPSTREAM_FAILED",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Answered(problem) => Fault::status(problem),
            Self::NotAnswered(error) if error.is_timeout() => 504,
            Self::NotAnswered(_) => 502,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Answered(problem) => problem.public_message(),
            Self::NotAnswered(error) if error.is_timeout() => {
                "A service behind this one did not answer in time.".into()
            }
            Self::NotAnswered(_) => "A service behind this one failed.".into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.answered().and_then(Fault::retry_after)
    }
}

impl<T> Classify<T, RemoteError> for ByRemote {
    fn classify(&self, result: Result<&T, &RemoteError>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(error) => error.verdict(),
        }
    }
}

/// The response, if its status is below 400: its body has not been touched then. Of any other the
/// body is read, up to [`MAX_REMOTE_BODY`](super::MAX_REMOTE_BODY).
///
/// The request's timeout covers the reading; without one, a service that never ends its answer
/// holds this future. Dropping it drops the connection or the stream; the request may have had its
/// effect.
///
/// # Errors
///
/// What the other service says. Where its body was too long, or broke off, its status and headers:
/// see [`RemoteProblem::is_complete`].
pub async fn check(response: Response) -> Result<Response, RemoteProblem> {
    if response.status().as_u16() < 400 {
        return Ok(response);
    }
    match super::check(http::Response::<Body>::from(response)).await {
        Ok(response) => Ok(response.into()),
        Err(problem) => Err(problem),
    }
}

/// Sends a request, and gives the response if its status is below 400.
///
/// Dropping the future abandons the request, which may have had its effect.
///
/// ```no_run
/// use buttress_error_envelope::client::reqwest::{RemoteError, send};
///
/// async fn order(shop: reqwest::Client) -> Result<String, RemoteError> {
///     match send(shop.get("https://shop.example/orders/7")).await {
///         Ok(response) => Ok(response.text().await?),
///         Err(error) if error.answered().and_then(|it| it.code()) == Some("ORDER_NOT_FOUND") => {
///             Ok(String::new())
///         }
///         Err(error) => Err(error),
///     }
/// }
/// ```
///
/// # Errors
///
/// What the other service says, or why nothing came of it.
pub async fn send(request: RequestBuilder) -> Result<Response, RemoteError> {
    Ok(check(request.send().await?).await?)
}
