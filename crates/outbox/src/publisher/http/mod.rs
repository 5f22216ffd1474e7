//! Webhooks over HTTP: signed, to permitted addresses only, judged by what the endpoint answers.
//!
//! ```
//! use buttress_outbox::{
//!     publisher::http::{Endpoint, HttpClient, HttpPublisher},
//!     webhook::{Secret, Signer},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = HttpClient::builder().build()?; // one for all endpoints
//! let signer = Signer::new([Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?])?;
//! let endpoint = Endpoint::builder("http://hooks.example.com/orders", signer)
//!     .allow_http() // without it, `https` only, which needs the feature `tls`
//!     .build()?;
//! let publisher = HttpPublisher::new(&client, endpoint)?;
//! # let _ = publisher;
//! # Ok(())
//! # }
//! ```

mod addresses;
mod answer;
mod client;
mod connect;
mod endpoint;
mod endpoints;
mod event;
mod fields;
mod publisher;
mod resolve;
mod tls;

pub use self::{
    addresses::{Addresses, IpNet},
    client::{HttpClient, HttpClientBuilder},
    endpoint::{Blame, Endpoint, EndpointBuilder, Form},
    endpoints::{Disabled, EndpointEvent, Endpoints, Types},
    publisher::HttpPublisher,
    resolve::{Resolve, SystemResolver},
};
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
