//! What reqwest returns, judged.

use reqwest::{Error, Response};

use super::http::by_status;
use crate::{Classify, Verdict};

/// Judges a call of reqwest: a response by the table of [`ByStatus`](super::http::ByStatus), an
/// error of `error_for_status` likewise (without `Retry-After`, which it has lost), one of
/// connecting as not done, one of building the request or of too many redirects as final, all else
/// (timeouts, broken connections and bodies) as unknown.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct ByReqwest;

impl Classify<Response, Error> for ByReqwest {
    fn classify(&self, result: Result<&Response, &Error>) -> Verdict {
        match result {
            Ok(response) => by_status(response.status(), response.headers()),
            Err(error) => by_error(error),
        }
    }
}

/// What this error says, for a closure that returns something else than the response.
#[must_use]
pub fn by_error(error: &Error) -> Verdict {
    if let Some(status) = error.status() {
        by_status(status, &http::HeaderMap::new())
    } else if error.is_connect() {
        Verdict::not_done()
    } else if error.is_builder() || error.is_redirect() {
        Verdict::refused()
    } else {
        Verdict::unknown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    #[tokio::test]
    async fn a_refused_connection_was_not_done_and_a_wrong_url_is_final() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let get = |url: String| reqwest::Client::new().get(url).send();
        let refused = get(format!("http://{address}")).await;
        assert_eq!(ByReqwest.classify(refused.as_ref()).class(), Class::NotDone);
        let wrong = get("nowhere".to_owned()).await;
        assert_eq!(ByReqwest.classify(wrong.as_ref()).class(), Class::Final);
    }

    #[test]
    fn a_response_is_judged_by_its_status() {
        let response =
            |status| Response::from(http::Response::builder().status(status).body("").unwrap());
        assert_eq!(ByReqwest.classify(Ok(&response(200))).class(), Class::Done);
        assert_eq!(
            ByReqwest.classify(Ok(&response(429))).class(),
            Class::NotDone
        );
        let error = response(404).error_for_status().unwrap_err();
        assert_eq!(by_error(&error).class(), Class::Final);
    }
}
