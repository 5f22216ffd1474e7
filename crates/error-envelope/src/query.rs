//! Reads the query of a request, and says as a problem what is wrong with it.

use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::{FieldError, Problem, shape};

/// Reads the query of a URI (`uri.query().unwrap_or_default()`) as a value of type `T`.
///
/// ```
/// use buttress_error_envelope::parse_query;
///
/// #[derive(Debug, serde::Deserialize)]
/// struct Search { most: u8 }
///
/// assert_eq!(parse_query::<Search>("most=7").unwrap().most, 7);
/// let wrong = parse_query::<Search>("most=many").unwrap_err();
/// assert_eq!(wrong.fields()[0].path(), "most");
/// assert_eq!(wrong.fields()[0].message(), "must be an integer");
/// ```
///
/// # Errors
///
/// 400 `MALFORMED_REQUEST` with the first parameter that is wrong, missing or given twice. The
/// words are ours: no name of a Rust type and none of the caller's values is in them.
pub fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let pairs = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let (key, message) = shape::parameter(&error.inner().to_string());
        let name = key.or_else(|| shape::last_key(error.path()));
        let problem = Problem::from_status(StatusCode::BAD_REQUEST);
        match name {
            Some(name) => problem.with_field(FieldError::parameter(name, message)),
            None => problem,
        }
    })
}
