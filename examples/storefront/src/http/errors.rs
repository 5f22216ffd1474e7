//! `/errors`: every code of the shop, each defined once.

use axum::response::Html;
use buttress_error_envelope::{Catalogue, CodeEntry, Codes, ProblemCodes};

use super::refusal::{Refusal, TooFast};

/// To whose catalogue the codes belong.
pub(super) const DOMAIN: &str = "storefront";

/// What the crates answer for the shop: a key that is missing or of no use, and one that is used.
const KEYS: Codes = Codes::new(
    &[
        CodeEntry::new("IDEMPOTENCY_KEY_MISSING", 400)
            .with_message("This request needs an Idempotency-Key header.")
            .with_description("`POST /orders` without the header."),
        CodeEntry::new("IDEMPOTENCY_KEY_INVALID", 400)
            .with_message(
                "An Idempotency-Key is at most 255 printable ASCII characters, sent once.",
            )
            .with_description(
                "The key is empty, longer than 255 characters or not printable ASCII.",
            ),
        CodeEntry::new("IDEMPOTENCY_KEY_IN_USE", 409)
            .with_message("A request with this idempotency key is being processed.")
            .with_description("The first request with this key is still running.")
            .with_retry_after(1),
        CodeEntry::new("IDEMPOTENCY_KEY_REUSED", 422)
            .with_message("This idempotency key was used for another request.")
            .with_description("The key came before with another body."),
    ],
    &[],
);

/// What a database answers with, or does not.
const STORE: Codes = Codes::new(
    &[
        CodeEntry::of_status(503)
            .with_retry_after(1)
            .with_description("The database does not answer, or the answer took too long."),
        CodeEntry::of_status(500)
            .with_description("A defect of the shop's. Always the same message."),
    ],
    &[],
);

/// What the layer and the extractors say of a request that no handler took.
const LAYER: Codes = Codes::new(
    &[
        CodeEntry::of_status(404).with_description("No route has this path."),
        CodeEntry::of_status(405).with_description("`Allow` names the methods of this path."),
        CodeEntry::of_status(415).with_description("A body is sent as `application/json`."),
        CodeEntry::of_status(422).with_description(
            "JSON of the wrong shape, or a rule broken; `details` maps each field's path to what \
             is wrong with it.",
        ),
    ],
    &[],
);

/// All codes of the shop. One that two places define differently does not compile.
pub(super) const CATALOGUE: Catalogue =
    Catalogue::new(&[Refusal::CODES, TooFast::CODES, KEYS, STORE, LAYER]);

/// The catalogue, for people.
pub(super) async fn page() -> Html<String> {
    Html(CATALOGUE.to_html("Errors of the storefront"))
}

#[cfg(test)]
mod tests {
    use buttress_core::Fault;
    use buttress_idempotency::{Refusal, http::KeyRefusal};

    use super::*;

    #[test]
    fn the_codes_of_keys_are_those_that_the_crate_answers_with() {
        // The fourth, that a key is in use, only the crate can make; it is seen over HTTP.
        let faults: [&dyn Fault; 3] = [
            &KeyRefusal::Missing,
            &KeyRefusal::Invalid,
            &Refusal::Mismatch,
        ];
        for fault in faults {
            let entry = CATALOGUE.get(fault.code()).unwrap();
            assert_eq!(entry.status(), fault.status());
            assert_eq!(entry.message(), fault.public_message());
            assert_eq!(entry.has_retry_after(), fault.retry_after().is_some());
        }
    }
}
