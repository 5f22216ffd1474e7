//! The proxy's port, and the tasks of its connections.

use std::{
    io, mem,
    net::{self, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    Traffic,
    connection::{self, End},
};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What only the task that listens can do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Listen,
    Refuse,
    Cut,
}

/// The port.
enum Port {
    /// Twice the same socket: by the second one sees at once whether somebody waits.
    Open(TcpListener, net::TcpListener),
    /// Bound, so that nobody else gets it, and not listened on: the system refuses.
    Shut(TcpSocket),
    /// Lost, or being changed.
    Gone,
}

impl Port {
    fn open(listener: TcpListener) -> io::Result<Self> {
        let listener = listener.into_std()?;
        let same = listener.try_clone()?;
        Ok(Self::Open(TcpListener::from_std(listener)?, same))
    }

    /// Who waits to be accepted, without waiting for one.
    fn waiting(&self) -> Option<TcpStream> {
        let Self::Open(_, listener) = self else {
            return None;
        };
        let (client, _) = listener.accept().ok()?;
        client.set_nonblocking(true).ok()?;
        TcpStream::from_std(client).ok()
    }
}

pub(super) struct Listening {
    address: SocketAddr,
    port: Port,
    connections: JoinSet<()>,
    traffic: Arc<Traffic>,
}

impl Listening {
    pub(super) async fn begin(traffic: Arc<Traffic>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self {
            address: listener.local_addr()?,
            port: Port::open(listener)?,
            connections: JoinSet::new(),
            traffic,
        })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn serve(
        mut self,
        mut orders: mpsc::Receiver<(Order, oneshot::Sender<io::Result<()>>)>,
    ) {
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some((order, done)) = order else { return };
                    // Nobody waits any more when he was dropped.
                    let _ = done.send(self.obey(order).await);
                }
                client = accept(&self.port) => self.take(client),
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn take(&mut self, client: TcpStream) {
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        let traffic = Arc::clone(&self.traffic);
        self.connections
            .spawn(connection::carry(End::new(client), traffic));
    }

    async fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Cut => {
                // Whoever waits to be accepted is open for his part.
                while let Some(client) = self.port.waiting() {
                    self.take(client);
                }
                // A connection whose task is dropped is reset.
                self.connections.shutdown().await;
            }
            Order::Refuse => {
                if let Port::Open(..) = self.port {
                    self.port = Port::Gone;
                    self.port = Port::Shut(self.bind()?);
                }
            }
            Order::Listen => {
                if let Port::Open(..) = self.port {
                    return Ok(());
                }
                let socket = match mem::replace(&mut self.port, Port::Gone) {
                    Port::Shut(socket) => socket,
                    _ => self.bind()?,
                };
                self.port = Port::open(socket.listen(BACKLOG)?)?;
            }
        }
        Ok(())
    }

    fn bind(&self) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        Ok(socket)
    }
}

async fn accept(port: &Port) -> TcpStream {
    loop {
        match port {
            // What fails here is the client's, who went before he was accepted.
            Port::Open(listener, _) => {
                if let Ok((client, _)) = listener.accept().await {
                    return client;
                }
                tokio::task::yield_now().await;
            }
            _ => std::future::pending().await,
        }
    }
}
