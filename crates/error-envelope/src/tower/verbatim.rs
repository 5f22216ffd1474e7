//! The mark of an error whose shape is somebody else's.

/// In a response's extensions: this response leaves with its own body, whatever its status. For
/// errors whose shape another standard fixes (OAuth's token endpoint, RFC 6749, section 5.2) or
/// another service made, where this one is a proxy.
///
/// It still has its request id, and panics on the way to it are still caught. It is not logged.
///
/// In axum: `(StatusCode::BAD_REQUEST, Extension(Verbatim), body)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct Verbatim;
