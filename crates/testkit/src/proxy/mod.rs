//! A TCP proxy in front of a server, which does to the bytes what a network can do.

mod connection;
mod direction;
mod listening;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};
use url::Url;

use self::{
    direction::{Direction, Trap},
    listening::{Listening, Order},
};
use crate::tally::Counting;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Way {
    /// What the client says.
    ToServer,
    /// What the server answers.
    ToClient,
}

/// Where, around a pattern of bytes, a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cut {
    /// The pattern does not arrive: what it asks for is not done.
    Before,
    /// It is passed on and the connection reset in the same moment. Whether the receiver still
    /// reads it is up to him: in this way a real network cuts.
    During,
    /// It arrives, and its receiver has answered: what it asks for is done, and the answer is lost.
    Answer,
}

/// A proxy on a free port of 127.0.0.1. It ends, with all its connections, when it is dropped.
///
/// As it starts it passes everything on. Each fault lasts until [`heal`](Self::heal), but those
/// that say that they strike once. A fault holds for connections that are open as well as for
/// later ones, and several can be had at once. To be used on a tokio runtime, whose clock is not
/// paused.
///
/// It shows what a client makes of resets, silence and slowness. It does not lose, repeat or
/// reorder packets: below TCP nothing is simulated, so a retransmission is never seen.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    traffic: Arc<Traffic>,
    orders: mpsc::Sender<(Order, oneshot::Sender<io::Result<()>>)>,
    task: AbortHandle,
}

/// What all connections of a proxy share.
#[derive(Debug)]
struct Traffic {
    upstream: String,
    to_server: Direction,
    to_client: Direction,
    connections: AtomicU64,
    struck: watch::Sender<u64>,
    counting: Counting,
}

impl Proxy {
    /// A proxy in front of `upstream`, a host and a port.
    ///
    /// # Errors
    ///
    /// When there is no port to be had.
    pub async fn start(upstream: impl Into<String>) -> io::Result<Self> {
        let traffic = Arc::new(Traffic {
            upstream: upstream.into(),
            to_server: Direction::default(),
            to_client: Direction::default(),
            connections: AtomicU64::new(0),
            struck: watch::Sender::new(0),
            counting: Counting::here(),
        });
        let listening = Listening::begin(Arc::clone(&traffic)).await?;
        let address = listening.address();
        // One at a time: each is answered.
        let (orders, taken) = mpsc::channel(1);
        let task = tokio::spawn(listening.serve(taken)).abort_handle();
        Ok(Self {
            address,
            traffic,
            orders,
            task,
        })
    }

    /// A proxy in front of the server that `url` leads to, and the same URL through the proxy.
    ///
    /// # Errors
    ///
    /// When the URL names no host and port, or there is no port to be had.
    pub async fn before(url: &str) -> io::Result<(Self, String)> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let mut url = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        let port = url.port().or(match url.scheme() {
            "postgres" | "postgresql" => Some(5432),
            "mysql" | "mariadb" => Some(3306),
            "redis" => Some(6379),
            _ => None,
        });
        let (Some(host), Some(port)) = (url.host_str(), port) else {
            return Err(invalid("the URL names no host and port".into()));
        };
        let proxy = Self::start(format!("{host}:{port}")).await?;
        let through = url.set_host(Some("127.0.0.1")).and_then(|()| {
            url.set_port(Some(proxy.address.port()))
                .map_err(|()| url::ParseError::InvalidPort)
        });
        through.map_err(|error| invalid(error.to_string()))?;
        Ok((proxy, url.into()))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections are refused by the system, as if nobody listened. Open ones
    /// stay. When this returns, it holds. Dropped, it may hold or not.
    ///
    /// # Errors
    ///
    /// When somebody took the port in the moment at which it was free.
    pub async fn refuse(&self) -> io::Result<()> {
        self.traffic.counting.fault();
        self.order(Order::Refuse).await
    }

    /// Resets all open connections, on both sides. New ones are served. When this returns, it is
    /// done. Dropped, it may be done or not.
    pub async fn cut(&self) {
        self.traffic.counting.fault();
        // It is never refused.
        let _ = self.order(Order::Cut).await;
    }

    /// Ends all faults. What was held back goes on its way, in order; what was cut stays cut. When
    /// this returns, new connections are served. Dropped, that may be so or not.
    ///
    /// # Errors
    ///
    /// When nobody may listen on the port any more.
    pub async fn heal(&self) -> io::Result<()> {
        for way in [Way::ToServer, Way::ToClient] {
            self.direction(way).heal();
        }
        self.order(Order::Listen).await
    }

    /// Nothing goes this way any more, and nobody is told: connections are accepted and stay open.
    /// What was sent is held back until [`heal`](Self::heal).
    pub fn black_hole(&self, way: Way) {
        self.traffic.counting.fault();
        self.direction(way).change(|weather| weather.hole = true);
    }

    /// Each piece that goes this way, at most 16 KiB, is held back for so long. They do not
    /// overlap: it is a latency for question and answer, and a brake for a stream.
    pub fn delay(&self, way: Way, by: Duration) {
        self.traffic.counting.fault();
        self.direction(way).change(|weather| weather.delay = by);
    }

    /// No more than so many bytes a second go this way, on each connection. Zero is taken for one.
    pub fn slow(&self, way: Way, bytes_per_second: u32) {
        let rate = Some(bytes_per_second.max(1));
        self.traffic.counting.fault();
        self.direction(way).change(|weather| weather.rate = rate);
    }

    /// Once so many more bytes have gone this way, over all connections, the one that carries the
    /// next is reset instead: with 0, whoever speaks next. Strikes once, and takes the place of
    /// another such order for this way.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.direction(way).set(Trap::Bytes(bytes));
    }

    /// The first connection on which `pattern` goes this way is reset. Strikes once, and takes the
    /// place of another such order for this way. An empty pattern never comes.
    ///
    /// The pattern is found wherever pieces part, but not in encrypted bytes.
    pub fn cut_at(&self, way: Way, pattern: impl Into<Vec<u8>>, cut: Cut) {
        self.direction(way).set(Trap::Pattern(pattern.into(), cut));
    }

    /// How often such an order has struck.
    #[must_use]
    pub fn struck(&self) -> u64 {
        *self.traffic.struck.borrow()
    }

    /// Returns once such orders have struck so often since the proxy began. May be dropped.
    pub async fn until_struck(&self, times: u64) {
        let mut struck = self.traffic.struck.subscribe();
        // We hold the sender, so it is not gone.
        let _ = struck.wait_for(|count| *count >= times).await;
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.traffic.connections.load(Ordering::Relaxed)
    }

    /// How many bytes it has passed on this way.
    #[must_use]
    pub fn bytes(&self, way: Way) -> u64 {
        self.direction(way).passed()
    }

    fn direction(&self, way: Way) -> &Direction {
        match way {
            Way::ToServer => &self.traffic.to_server,
            Way::ToClient => &self.traffic.to_client,
        }
    }

    async fn order(&self, order: Order) -> io::Result<()> {
        let gone = || io::Error::other("the proxy's runtime has ended");
        let (done, is_done) = oneshot::channel();
        self.orders.send((order, done)).await.map_err(|_| gone())?;
        is_done.await.map_err(|_| gone())?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
