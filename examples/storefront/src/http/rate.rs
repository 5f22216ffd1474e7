//! The rate of a client: the fields that tell him of it, and the refusal of one who is too fast.

use buttress_error_envelope::Problem;
use buttress_rate_limiter::http::Fields;
use http::HeaderMap;

use crate::service::OrderRate;

/// Takes an order of the client's rate. Gives the fields that tell what is left, for the answer; a
/// refusal has them already.
pub(super) async fn take(rate: &OrderRate, client: &[u8]) -> Result<HeaderMap, Problem> {
    let decision = rate.take(client).await?;
    let mut fields = HeaderMap::new();
    Fields::Draft10.write(&mut fields, OrderRate::NAME, rate.quota(), &decision);
    match decision.into_result(OrderRate::NAME) {
        Ok(_) => Ok(fields),
        Err(too_fast) => {
            let with = |problem: Problem, (name, value): (&http::HeaderName, &_)| {
                problem.with_header(name.clone(), http::HeaderValue::clone(value))
            };
            Err(fields.iter().fold(too_fast.into(), with))
        }
    }
}
