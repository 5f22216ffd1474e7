//! One code of a service: what a client may rely on.

use std::{fmt, panic::Location};

use serde_json::{Map, Value};

use crate::{FieldError, Problem, RpcCode, preset};

/// One code: its status and words, whether it is worth trying again, and what comes with it.
///
/// The derive of [`ToProblem`](crate::ToProblem) makes one of each variant. Write one by hand for
/// an error that implements `Fault` or `ToProblem` by hand:
///
/// ```
/// use buttress_error_envelope::{CodeEntry, Codes};
///
/// const STORE: Codes = Codes::new(
///     &[CodeEntry::of_status(503).with_retry_after(1), CodeEntry::of_status(500)],
///     &[],
/// );
/// # assert_eq!(STORE.entries().len(), 2);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CodeEntry {
    code: &'static str,
    status: u16,
    title: Option<&'static str>,
    message: &'static str,
    /// The message with examples in it of what only the message shows.
    example_message: Option<&'static str>,
    description: &'static str,
    type_uri: Option<&'static str>,
    domain: Option<&'static str>,
    retryable: Option<bool>,
    retry_after: Option<u32>,
    rpc_code: Option<RpcCode>,
    extensions: &'static [ExtensionEntry],
    has_fields: bool,
    is_shared: bool,
    place: Place,
}

/// Where a code is defined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The path of the type and the variant; empty where it was written by hand.
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// `shop::OrderError::NotFound (src/order.rs:12)`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return write!(f, "{}:{}", self.file, self.line);
        }
        write!(f, "{} ({}:{})", self.name, self.file, self.line)
    }
}

/// One extension that comes with a code.
#[derive(Clone, Copy, Debug)]
pub struct ExtensionEntry {
    name: &'static str,
    kind: ValueKind,
    is_optional: bool,
    description: &'static str,
    example: Option<&'static str>,
}

/// What an extension's value is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueKind {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// Anything.
    Any,
}

impl ValueKind {
    /// As JSON Schema names it; nothing stands for anything.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Any => "any",
        }
    }

    fn example(self) -> Value {
        match self {
            Self::String => "text".into(),
            Self::Integer | Self::Number => 1.into(),
            Self::Boolean => true.into(),
            Self::Array => Value::Array(Vec::new()),
            Self::Any => Value::Object(Map::new()),
        }
    }
}

impl ExtensionEntry {
    /// An extension of this name, whose value is of this kind.
    #[must_use]
    pub const fn new(name: &'static str, kind: ValueKind) -> Self {
        Self {
            name,
            kind,
            is_optional: false,
            description: "",
            example: None,
        }
    }

    /// The same; it may be absent.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// The same with a description.
    #[must_use]
    pub const fn with_description(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The same with an example: JSON, or else a text.
    #[must_use]
    pub const fn with_example(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What its value is.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        self.kind
    }

    /// Whether it may be absent.
    #[must_use]
    pub const fn is_optional(&self) -> bool {
        self.is_optional
    }

    /// What it says.
    #[must_use]
    pub const fn description(&self) -> &'static str {
        self.description
    }

    /// A value that it may have.
    #[must_use]
    pub fn example(&self) -> Value {
        let Some(example) = self.example else {
            return self.kind.example();
        };
        let text = || Value::from(example);
        match self.kind {
            ValueKind::String => text(),
            _ => serde_json::from_str(example).unwrap_or_else(|_| text()),
        }
    }
}

impl CodeEntry {
    /// A code and its status.
    ///
    /// # Panics
    ///
    /// When the code is not of `A` to `Z`, `0` to `9` and `_` (in a `const`, that is an error of
    /// the compiler), begins with no letter, or the status is none of 400 to 599.
    #[must_use]
    #[track_caller]
    pub const fn new(code: &'static str, status: u16) -> Self {
        assert!(
            is_code(code),
            "a code is of A-Z, 0-9 and _, and begins with a letter"
        );
        assert!(
            400 <= status && status <= 599,
            "the status of an error is 400 to 599"
        );
        let location = Location::caller();
        Self {
            code,
            status,
            title: None,
            message: "",
            example_message: None,
            description: "",
            type_uri: None,
            domain: None,
            retryable: None,
            retry_after: None,
            rpc_code: None,
            extensions: &[],
            has_fields: false,
            is_shared: false,
            place: Place {
                name: "",
                file: location.file(),
                line: location.line(),
                column: location.column(),
            },
        }
    }

    /// The code that stands for a bare status; shared. For 400, 404, 405, 408, 413, 415, 422, 429,
    /// 500, 502, 503 and 504: see [`Problem::from_status`].
    ///
    /// # Panics
    ///
    /// For any other status.
    #[must_use]
    #[track_caller]
    pub const fn of_status(status: u16) -> Self {
        let Some((code, message)) = preset::known(status) else {
            panic!("no code of ours stands for this status: use `CodeEntry::new`");
        };
        let entry = Self::new(code, status).with_message(message).shared();
        // These say what is wrong with what.
        if status == 422 {
            entry.with_fields()
        } else {
            entry
        }
    }

    /// The same with the path of the type and the variant by which it is defined.
    #[must_use]
    pub const fn named(mut self, name: &'static str) -> Self {
        self.place.name = name;
        self
    }

    /// The same with a title.
    #[must_use]
    pub const fn with_title(mut self, title: &'static str) -> Self {
        self.title = Some(title);
        self
    }

    /// The same with the message; `{name}` stands for what varies.
    #[must_use]
    pub const fn with_message(mut self, message: &'static str) -> Self {
        self.message = message;
        self
    }

    /// The same with another message for the example, where the message shows what is no
    /// extension.
    #[must_use]
    pub const fn with_example_message(mut self, message: &'static str) -> Self {
        self.example_message = Some(message);
        self
    }

    /// The same with a description, in Markdown: when this happens, and what to do about it.
    #[must_use]
    pub const fn with_description(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The same with a type.
    #[must_use]
    pub const fn with_type(mut self, uri: &'static str) -> Self {
        self.type_uri = Some(uri);
        self
    }

    /// The same with a domain.
    #[must_use]
    pub const fn with_domain(mut self, domain: &'static str) -> Self {
        self.domain = Some(domain);
        self
    }

    /// The same with word on whether it is retryable; shown as the member `retryable`.
    #[must_use]
    pub const fn with_retryable(mut self, retryable: bool) -> Self {
        self.retryable = Some(retryable);
        self
    }

    /// The same; it leaves with `Retry-After`, so many seconds in the example.
    #[must_use]
    pub const fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same with a gRPC code.
    #[must_use]
    pub const fn with_rpc_code(mut self, code: RpcCode) -> Self {
        self.rpc_code = Some(code);
        self
    }

    /// The same with the extensions that come with it.
    #[must_use]
    pub const fn with_extensions(mut self, extensions: &'static [ExtensionEntry]) -> Self {
        self.extensions = extensions;
        self
    }

    /// The same; it says which fields are wrong.
    #[must_use]
    pub const fn with_fields(mut self) -> Self {
        self.has_fields = true;
        self
    }

    /// The same; others that are shared may define this code too, with the same status, title,
    /// type and gRPC code.
    #[must_use]
    pub const fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The title that was given.
    #[must_use]
    pub const fn title(&self) -> Option<&'static str> {
        self.title
    }

    /// The message, with `{name}` for what varies.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// The description.
    #[must_use]
    pub const fn description(&self) -> &'static str {
        self.description
    }

    /// The type that was given.
    #[must_use]
    pub const fn type_uri(&self) -> Option<&'static str> {
        self.type_uri
    }

    /// Whether the same request may succeed later; see [`Problem::is_retryable`].
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.example().is_retryable()
    }

    /// Whether it leaves with `Retry-After`.
    #[must_use]
    pub const fn has_retry_after(&self) -> bool {
        self.retry_after.is_some()
    }

    /// The gRPC code.
    #[must_use]
    pub fn rpc_code(&self) -> RpcCode {
        self.example().rpc_code()
    }

    /// The extensions that come with it.
    #[must_use]
    pub const fn extensions(&self) -> &'static [ExtensionEntry] {
        self.extensions
    }

    /// Whether it says which fields are wrong.
    #[must_use]
    pub const fn has_fields(&self) -> bool {
        self.has_fields
    }

    pub(super) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) const fn rpc_number(&self) -> i32 {
        match self.rpc_code {
            Some(code) => code.number(),
            None => -1,
        }
    }

    /// A problem of this code, as it may look.
    #[must_use]
    pub fn example(&self) -> Problem {
        let mut message = self.example_message.unwrap_or(self.message).to_owned();
        for extension in self.extensions {
            let shown = match extension.example() {
                Value::String(text) => text,
                value => value.to_string(),
            };
            message = message.replace(&format!("{{{}}}", extension.name), &shown);
        }
        let mut problem = Problem::new(self.status, self.code, message);
        for extension in self.extensions {
            problem = problem.with_extension(extension.name, extension.example());
        }
        if let Some(title) = self.title {
            problem = problem.with_title(title);
        }
        if let Some(uri) = self.type_uri {
            problem = problem.with_type(uri);
        }
        if let Some(domain) = self.domain {
            problem = problem.with_domain(domain);
        }
        if let Some(retryable) = self.retryable {
            problem = problem.with_retryable(retryable);
        }
        if let Some(seconds) = self.retry_after {
            problem = problem.with_retry_after(std::time::Duration::from_secs(seconds.into()));
        }
        if let Some(code) = self.rpc_code {
            problem = problem.with_rpc_code(code);
        }
        if self.has_fields {
            problem = problem.with_field(FieldError::pointer("/items/0", "is not valid"));
        }
        problem
    }
}

/// `[A-Z][A-Z0-9_]*`.
const fn is_code(code: &str) -> bool {
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let inner = bytes[at].is_ascii_uppercase()
            || (at > 0 && (bytes[at].is_ascii_digit() || bytes[at] == b'_'));
        if !inner {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}
