//! Whose request it is: keys belong to a client.

use std::{convert::Infallible, net::SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;
use sha2::{Digest, Sha256};

/// The caller: his `X-Api-Key`, else his address. Hashed, for keys are secrets and may be long.
pub(super) struct Client(pub(super) Vec<u8>);

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let mut hash = Sha256::new();
        if let Some(key) = parts.headers.get("x-api-key") {
            hash.update(b"key ");
            hash.update(key.as_bytes());
        } else if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
            hash.update(b"address ");
            hash.update(peer.ip().to_canonical().to_string());
        }
        Ok(Self(hash.finalize().to_vec()))
    }
}
