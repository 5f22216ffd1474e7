//! Reads a header field of a request, and says as a problem what is wrong with it.

use std::{fmt::Display, str::FromStr};

use http::{HeaderMap, HeaderName, StatusCode};

use crate::{FieldError, Problem, shape};

/// Reads a header field as a value of type `T`; `None` where there is no such field.
///
/// ```
/// use buttress_error_envelope::parse_header;
/// use http::{HeaderMap, header::MAX_FORWARDS};
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(parse_header::<u8>(&headers, &MAX_FORWARDS).unwrap(), None);
/// headers.insert(MAX_FORWARDS, "many".parse().unwrap());
/// let wrong = parse_header::<u8>(&headers, &MAX_FORWARDS).unwrap_err();
/// assert_eq!(wrong.fields()[0].path(), "max-forwards");
/// assert_eq!(wrong.fields()[0].message(), "must be an integer");
/// ```
///
/// # Errors
///
/// 400 `MALFORMED_REQUEST` with the field, when it is there more than once, is no visible ASCII,
/// or no `T`. Nothing of its value is in the words.
pub fn parse_header<T>(headers: &HeaderMap, name: &HeaderName) -> Result<Option<T>, Problem>
where
    T: FromStr,
    T::Err: Display,
{
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let message = match (value.to_str(), values.next()) {
        (_, Some(_)) => "is given more than once",
        (Err(_), None) => "is not valid",
        (Ok(value), None) => match value.parse() {
            Ok(value) => return Ok(Some(value)),
            Err(error) => shape::parameter(&T::Err::to_string(&error)).1,
        },
    };
    let field = FieldError::header(name.as_str().to_owned(), message);
    Err(Problem::from_status(StatusCode::BAD_REQUEST).with_field(field))
}
