//! Who a client is: an address that only trusted proxies can have changed, or what the request says.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use http::{Extensions, HeaderName, request::Parts};

type Peer = Arc<dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync>;
type Closure = Arc<dyn Fn(&Parts) -> Option<Vec<u8>> + Send + Sync>;
type Trusts = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// What a client is known by.
///
/// Whatever a client can choose freely, he can change with each request: a header without a check behind
/// it limits only the honest.
#[derive(Clone)]
pub struct Client {
    by: By,
}

#[derive(Clone)]
enum By {
    Address { peer: Peer, proxies: Proxies },
    Header(HeaderName),
    Closure(Closure),
}

impl Client {
    /// The address of the peer, found in the request's extensions as `SocketAddr` or `IpAddr`; behind
    /// proxies, the one that they tell.
    ///
    /// Where the server puts it in a type of its own, use [`Client::address_of`]: for axum,
    /// `|it| it.get::<ConnectInfo<SocketAddr>>().map(|it| it.0.ip())`.
    #[must_use]
    pub fn address(proxies: Proxies) -> Self {
        Self::address_of(proxies, |extensions| {
            let socket = extensions.get::<SocketAddr>().map(SocketAddr::ip);
            socket.or_else(|| extensions.get::<IpAddr>().copied())
        })
    }

    /// The same, with the peer's address found by `peer`.
    #[must_use]
    pub fn address_of(
        proxies: Proxies,
        peer: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        let peer = Arc::new(peer);
        Self {
            by: By::Address { peer, proxies },
        }
    }

    /// The value of a header: an API key that something in front has checked.
    #[must_use]
    pub const fn header(name: HeaderName) -> Self {
        Self {
            by: By::Header(name),
        }
    }

    /// An extension that something in front has put there: a user, a tenant.
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(
        key: impl Fn(&T) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::by(move |parts| parts.extensions.get::<T>().map(&key))
    }

    /// Whatever `key` says.
    #[must_use]
    pub fn by(key: impl Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self {
            by: By::Closure(Arc::new(key)),
        }
    }

    /// The client's key; `None` for one who cannot be told.
    #[must_use]
    pub fn key(&self, parts: &Parts) -> Option<Vec<u8>> {
        match &self.by {
            By::Address { peer, proxies } => {
                let peer = peer(&parts.extensions)?;
                Some(address_key(proxies.client(peer, parts)))
            }
            By::Header(name) => {
                let value = parts.headers.get(name)?.as_bytes();
                (!value.is_empty()).then(|| value.to_vec())
            }
            By::Closure(key) => key(parts),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.by {
            By::Address { .. } => "Client::address",
            By::Header(_) => "Client::header",
            By::Closure(_) => "Client::by",
        })
    }
}

/// Which field the proxies write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forwarding {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// How many proxies stand before the service, each of which adds the address it was called from to the
/// field. What is further to the left than they wrote, the client may have made up: it is never looked at.
///
/// Nobody must be able to reach the service past the proxies; [`within`](Self::within) makes sure.
#[derive(Clone)]
pub struct Proxies {
    count: usize,
    forwarding: Forwarding,
    trusts: Option<Trusts>,
}

impl Proxies {
    /// None: the peer is the client, and no field is looked at.
    #[must_use]
    pub const fn none() -> Self {
        Self::count(0)
    }

    /// So many, which write `X-Forwarded-For`.
    #[must_use]
    pub const fn count(count: usize) -> Self {
        Self {
            count,
            forwarding: Forwarding::XForwardedFor,
            trusts: None,
        }
    }

    /// They write another field.
    #[must_use]
    pub const fn writing(mut self, forwarding: Forwarding) -> Self {
        self.forwarding = forwarding;
        self
    }

    /// An address is that of a proxy only if `trusts` says so; the first one from the right that is none
    /// is the client, however many were said to be there.
    #[must_use]
    pub fn within(mut self, trusts: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.trusts = Some(Arc::new(trusts));
        self
    }

    fn client(&self, peer: IpAddr, parts: &Parts) -> IpAddr {
        let mut client = peer;
        if self.count == 0 {
            return client;
        }
        let hops = match self.forwarding {
            Forwarding::XForwardedFor => x_forwarded_for(parts),
            Forwarding::Forwarded => forwarded(parts),
        };
        let mut hops = hops.into_iter().rev();
        for _ in 0..self.count {
            if let Some(trusts) = &self.trusts
                && !trusts(plain(client))
            {
                break;
            }
            // What a proxy wrote and nobody can read: then the proxy is as near as we get.
            match hops.next() {
                Some(Some(hop)) => client = hop,
                _ => break,
            }
        }
        client
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("count", &self.count)
            .field("forwarding", &self.forwarding)
            .field("within", &self.trusts.is_some())
            .finish()
    }
}

/// The entries of all lines of the field, in order; `None` where there is no address.
fn x_forwarded_for(parts: &Parts) -> Vec<Option<IpAddr>> {
    let lines = parts.headers.get_all("x-forwarded-for").iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(address)
        .collect()
}

/// The `for` of each element. Commas within quotes separate nothing.
fn forwarded(parts: &Parts) -> Vec<Option<IpAddr>> {
    let lines = parts.headers.get_all(http::header::FORWARDED).iter();
    let elements = lines.flat_map(|line| split(line.as_bytes(), b','));
    elements
        .map(|element| {
            let mut pairs = split(element, b';').into_iter();
            pairs.find_map(|pair| {
                let pair = pair.trim_ascii();
                let (name, value) = pair.split_at_checked(4)?;
                name.eq_ignore_ascii_case(b"for=").then(|| address(value))?
            })
        })
        .collect()
}

fn split(line: &[u8], by: u8) -> Vec<&[u8]> {
    let mut quoted = false;
    line.split(|byte| {
        quoted ^= *byte == b'"';
        *byte == by && !quoted
    })
    .collect()
}

/// An address, with or without a port, brackets and quotes.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let entry = entry.trim_matches('"');
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(socket) = entry.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    let inside = entry.strip_prefix('[')?.strip_suffix(']')?;
    inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// An IPv4 address that is written as an IPv6 one is the same.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// One client is one IPv4 address, or one IPv6 network of 64 bits: that is what a customer is given.
fn address_key(address: IpAddr) -> Vec<u8> {
    match plain(address) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}
