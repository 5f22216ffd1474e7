//! One thing that is wrong with one part of a request.

use std::{borrow::Cow, error::Error, fmt};

use crate::{FieldPath, Problem, ToProblem};

/// Which part of a request a [`FieldError`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldSource {
    /// A place in the JSON body.
    Body(FieldPath),
    /// A parameter of the query or of the path.
    Parameter(Cow<'static, str>),
    /// A header field.
    Header(Cow<'static, str>),
}

/// One thing that is wrong with one part of a request.
///
/// In problem+json it is an element of `errors`, `{"detail": …, "pointer": "#/items/0/quantity"}`
/// (the example of RFC 9457, section 3), with `parameter` or `header` instead of `pointer` where
/// that is the source. In the JSON envelope it is an entry of `details`,
/// `"items[0].quantity": "…"`.
///
/// ```
/// use buttress_error_envelope::FieldError;
///
/// let quantity = FieldError::pointer("/items/0/quantity", "must be at least 1");
/// assert_eq!(quantity.path(), "items[0].quantity");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    source: FieldSource,
    message: Cow<'static, str>,
    code: Option<Cow<'static, str>>,
}

impl FieldError {
    /// What is wrong, in words for the caller, with the part that `source` names.
    pub fn new(source: FieldSource, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            source,
            message: message.into(),
            code: None,
        }
    }

    /// About the place in the body to which this JSON Pointer leads (RFC 6901); see
    /// [`FieldPath::from_pointer`].
    pub fn pointer(pointer: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::at(FieldPath::from_pointer(pointer), message)
    }

    /// About this place in the body.
    pub fn at(path: FieldPath, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FieldSource::Body(path), message)
    }

    /// About a parameter of the query or the path.
    pub fn parameter(
        name: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(FieldSource::Parameter(name.into()), message)
    }

    /// About a header field.
    pub fn header(
        name: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(FieldSource::Header(name.into()), message)
    }

    /// The same with a stable name for what is wrong; shown in problem+json only.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Which part of the request it is about.
    #[must_use]
    pub const fn source(&self) -> &FieldSource {
        &self.source
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stable name for what is wrong.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The key in `details` of the JSON envelope: a dotted path, or the parameter's or header's
    /// name.
    #[must_use]
    pub fn path(&self) -> Cow<'_, str> {
        match &self.source {
            FieldSource::Body(path) => path.to_string().into(),
            FieldSource::Parameter(name) | FieldSource::Header(name) => (&**name).into(),
        }
    }
}

/// All that is wrong with a request. As a [`Problem`]: 422 `VALIDATION_FAILED`.
///
/// ```
/// use buttress_error_envelope::{FieldError, FieldErrors, Problem};
///
/// fn check(quantity: u32) -> Result<(), Problem> {
///     let mut wrong = FieldErrors::default();
///     if quantity == 0 {
///         wrong.push(FieldError::pointer("/quantity", "must be at least 1"));
///     }
///     Ok(wrong.into_result()?)
/// }
/// assert_eq!(check(0).unwrap_err().status(), 422);
/// assert!(check(1).is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors {
    list: Vec<FieldError>,
}

impl FieldErrors {
    /// Adds one.
    pub fn push(&mut self, field: FieldError) {
        self.list.push(field);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them, in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.list.iter()
    }

    /// `Ok` when nothing is wrong.
    ///
    /// # Errors
    ///
    /// Itself, when something is.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl ToProblem for FieldErrors {
    fn to_problem(&self) -> Problem {
        Problem::from_status(http::StatusCode::UNPROCESSABLE_ENTITY)
            .with_fields(self.iter().cloned())
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.list[..] {
            [one] => write!(f, "{} is wrong", one.path()),
            list => write!(f, "{} fields are wrong", list.len()),
        }
    }
}

impl Error for FieldErrors {}

impl FromIterator<FieldError> for FieldErrors {
    fn from_iter<I: IntoIterator<Item = FieldError>>(fields: I) -> Self {
        Self {
            list: fields.into_iter().collect(),
        }
    }
}

impl Extend<FieldError> for FieldErrors {
    fn extend<I: IntoIterator<Item = FieldError>>(&mut self, fields: I) {
        self.list.extend(fields);
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a FieldErrors {
    type Item = &'a FieldError;
    type IntoIter = std::slice::Iter<'a, FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
