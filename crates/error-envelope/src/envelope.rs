//! What leaves the service when all went well.

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{Format, Problem};

/// A success: `{"success": true, "data": …, "meta": …}`; without `meta` where there is nothing to
/// say.
///
/// ```
/// use buttress_error_envelope::Envelope;
/// use serde_json::json;
///
/// let page = Envelope::new(["a", "b"]).with_meta(json!({"next": "c"}));
/// assert_eq!(
///     serde_json::to_value(&page).unwrap(),
///     json!({"success": true, "data": ["a", "b"], "meta": {"next": "c"}}),
/// );
/// ```
pub struct Envelope<T> {
    data: T,
    meta: Option<serde_json::Result<Value>>,
}

impl<T> Envelope<T> {
    /// A success with this data.
    pub const fn new(data: T) -> Self {
        Self { data, meta: None }
    }

    /// The same with what there is to say about the data: a cursor, a count. `null` says nothing.
    ///
    /// If `meta` cannot be serialized, the envelope cannot.
    #[must_use]
    pub fn with_meta(mut self, meta: impl Serialize) -> Self {
        let meta = serde_json::to_value(meta);
        self.meta = (!matches!(meta, Ok(Value::Null))).then_some(meta);
        self
    }

    /// The data.
    pub const fn data(&self) -> &T {
        &self.data
    }
}

impl<T: Serialize> Envelope<T> {
    /// The response: 200, `application/json`. One that cannot be serialized is the opaque 500, as
    /// JSON.
    pub fn render(&self) -> Response<Bytes> {
        let body = match serde_json::to_vec(self) {
            Ok(body) => body,
            Err(error) => return Problem::internal(error).render(Format::Json),
        };
        let length = body.len();
        let mut response = Response::new(Bytes::from(body));
        let headers = response.headers_mut();
        let json = HeaderValue::from_static(Format::Json.media_type());
        headers.insert(CONTENT_TYPE, json);
        headers.insert(CONTENT_LENGTH, length.into());
        response
    }
}

impl<T: Serialize> Serialize for Envelope<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("success", &true)?;
        map.serialize_entry("data", &self.data)?;
        match &self.meta {
            Some(Ok(meta)) => map.serialize_entry("meta", meta)?,
            Some(Err(error)) => return Err(serde::ser::Error::custom(error)),
            None => {}
        }
        map.end()
    }
}

impl<T: fmt::Debug> fmt::Debug for Envelope<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("data", &self.data)
            .field("meta", &self.meta)
            .finish()
    }
}
