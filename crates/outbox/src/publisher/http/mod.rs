//! Webhooks.
mod addresses;
mod client;
mod connect;
mod resolve;
mod tls;
pub use self::{
    addresses::{Addresses, IpNet},
    client::{HttpClient, HttpClientBuilder},
    resolve::{Resolve, SystemResolver},
};
