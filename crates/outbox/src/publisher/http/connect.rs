//! A connection to an address that is permitted, judged by the address that is connected to.
//!
//! There is no moment between the judgement and the connection at which a name could come to mean
//! something else: what is judged is the address, and what is connected to is that address.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tower_service::Service;

use super::{Addresses, Resolve, tls::Tls};

/// How many of a host's addresses are tried.
const MOST_ADDRESSES: usize = 8;

/// Why there is no connection. A resolver's or a server's words are in the source only.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the endpoint's address is not a permitted one")]
    NotPermitted,
    #[error("the endpoint's host has no address")]
    NoAddress,
    #[error("the endpoint's host was not resolved")]
    Resolve(#[source] io::Error),
    #[error("the endpoint did not accept the connection")]
    Refused(#[source] io::Error),
    #[error("the endpoint's certificate or its TLS was not accepted")]
    Tls(#[source] io::Error),
    #[error("the endpoint did not accept the connection in time")]
    Late,
    #[error("the endpoint's URL is not one of an endpoint")]
    Url,
}

/// Connects to what an endpoint's URL leads to.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) addresses: Arc<Addresses>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tls: Tls,
    pub(super) timeout: Duration,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Stream, ConnectError> {
        let work = self.connect_at_leisure(&uri);
        let ended = tokio::time::timeout(self.timeout, work).await;
        ended.unwrap_or(Err(ConnectError::Late))
    }

    async fn connect_at_leisure(&self, uri: &Uri) -> Result<Stream, ConnectError> {
        let host = host(uri).ok_or(ConnectError::Url)?;
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = self.connect_tcp(host, port).await?;
        let stream: Box<dyn Duplex> = if secure {
            self.tls.begin(host, tcp).await.map_err(ConnectError::Tls)?
        } else {
            Box::new(tcp)
        };
        Ok(TokioIo::new(stream))
    }

    async fn connect_tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let found = self.addresses_of(host).await?;
        if found.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let count = found.len().min(MOST_ADDRESSES);
        // One silent address leaves time for the next.
        let share = self.timeout / u32::try_from(count).unwrap_or(1);
        let mut last = ConnectError::NotPermitted;
        for address in found.into_iter().take(MOST_ADDRESSES) {
            if !self.addresses.permits(address) {
                continue;
            }
            let connecting = TcpStream::connect(SocketAddr::new(address, port));
            match tokio::time::timeout(share, connecting).await {
                Ok(Ok(stream)) => return self.check_peer(stream),
                Ok(Err(error)) => last = ConnectError::Refused(error),
                Err(_) => last = ConnectError::Late,
            }
        }
        Err(last)
    }

    /// A literal address is asked of nobody, and judged like any other.
    async fn addresses_of(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let found = self.resolver.resolve(host).await;
        found.map_err(ConnectError::Resolve)
    }

    /// The system's own word on what was connected to: the address that was asked for, or there is
    /// something between us and the network that we do not know.
    fn check_peer(&self, stream: TcpStream) -> Result<TcpStream, ConnectError> {
        let peer = stream.peer_addr().map_err(ConnectError::Refused)?;
        if !self.addresses.permits(peer.ip()) {
            return Err(ConnectError::NotPermitted);
        }
        // Small requests that wait for their answers: nothing is gained by holding them back.
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        Ok(stream)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// The host of a URL. A literal IPv6 address stands in brackets there.
pub(super) fn host(uri: &Uri) -> Option<&str> {
    let host = uri.host()?;
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    Some(bare.unwrap_or(host))
}

/// A connection, with TLS or without.
pub(super) type Stream = TokioIo<Box<dyn Duplex>>;

/// Bytes both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Connection for Box<dyn Duplex> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
