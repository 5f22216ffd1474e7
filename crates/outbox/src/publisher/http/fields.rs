//! Which fields of a request are made here, and cannot be made by a message or by a user.

use crate::webhook;

/// What frames and routes a request, what stands for the connection and not for the request, and
/// what is made of the message's attributes.
const OURS: [&str; 22] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    webhook::ID,
    webhook::SIGNATURE,
    webhook::TIMESTAMP,
];

/// Whether a field of this name, in small letters, is ours.
pub(super) fn are_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("ce-")
}

/// Whether a message may set it. What identifies us to the endpoint is the endpoint's to know.
pub(super) fn may_be_a_messages(name: &str) -> bool {
    !are_ours(name) && !matches!(name, "authorization" | "cookie")
}
