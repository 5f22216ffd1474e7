//! Where connections are made and kept: one client for all endpoints.

use std::{error, fmt, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

pub(super) use hyper_util::client::legacy::Error;

use super::{
    Addresses, Resolve, SystemResolver,
    connect::{ConnectError, Connector},
    tls::Tls,
};
use crate::PolicyError;

/// How much of an answer's head is read: status and fields. A longer one is a failure.
const LONGEST_HEAD: usize = 64 * 1024;
/// How long a connection that nobody uses is kept, for those of others are closed by then too.
const IDLE: Duration = Duration::from_secs(30);
/// How many of them are kept for a host.
const IDLE_PER_HOST: usize = 8;

/// Makes and keeps the connections to endpoints. Cheap to clone; one serves all of a process.
///
/// It speaks HTTP/1.1. It follows no redirect, heeds no proxy of the environment, keeps no cookie,
/// and connects to no address but those that its [`Addresses`] permit.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
}

impl HttpClient {
    /// A client for public addresses only, that asks the operating system for them, and allows
    /// five seconds for a connection.
    #[must_use]
    pub fn builder() -> HttpClientBuilder {
        HttpClientBuilder {
            addresses: Addresses::public(),
            resolver: Arc::new(SystemResolver),
            tls: Tls::none(),
            connect_timeout: HttpClientBuilder::DEFAULT_CONNECT_TIMEOUT,
        }
    }

    pub(super) fn permits(&self, address: IpAddr) -> bool {
        self.connector.addresses.permits(address)
    }

    pub(super) fn speaks_tls(&self) -> bool {
        self.connector.tls.is_there()
    }

    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        self.client.request(request).await
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("addresses", &self.connector.addresses)
            .field("tls", &self.speaks_tls())
            .field("connect_timeout", &self.connector.timeout)
            .finish_non_exhaustive()
    }
}

/// The knobs of an [`HttpClient`].
pub struct HttpClientBuilder {
    addresses: Addresses,
    resolver: Arc<dyn Resolve>,
    tls: Tls,
    connect_timeout: Duration,
}

impl HttpClientBuilder {
    /// Five seconds.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Which addresses may be connected to.
    #[must_use]
    pub fn addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Who knows the addresses of hosts.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// How long resolving, connecting and TLS may take together: 1 ms to 60 s.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How TLS is done: with which roots and which provider is your choice. Without one,
    /// endpoints of `https` are refused when they are built. Its protocols (ALPN) are set to
    /// `http/1.1`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: tokio_rustls::rustls::ClientConfig) -> Self {
        self.tls = Tls::new(config);
        self
    }

    /// The client. Nothing is connected yet, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// When the timeout is out of its range.
    pub fn build(self) -> Result<HttpClient, PolicyError> {
        let range = Duration::from_millis(1)..=Duration::from_secs(60);
        if !range.contains(&self.connect_timeout) {
            return Err(PolicyError::new("connect_timeout", "from 1 ms to 60 s"));
        }
        let connector = Connector {
            addresses: Arc::new(self.addresses),
            resolver: self.resolver,
            tls: self.tls,
            timeout: self.connect_timeout,
        };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(LONGEST_HEAD)
            .build(connector.clone());
        Ok(HttpClient { client, connector })
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder")
            .field("addresses", &self.addresses)
            .field("tls", &self.tls.is_there())
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// What went wrong with the connection, if it was that.
pub(super) fn connect_error(error: &Error) -> Option<&ConnectError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Whether what came back cannot be read as an answer.
pub(super) fn is_no_http(error: &Error) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_parse)
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn error::Error + 'static)> {
    std::iter::successors(error::Error::source(error), |error| error.source())
}
