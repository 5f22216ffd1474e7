//! An endpoint on a port of its own, which answers each request as it is told, and remembers.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What an endpoint does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes, and the connection stays.
    Bytes(String),
    /// These bytes again and again, until nobody takes them.
    Endless(String, &'static str),
    /// This status, after so long.
    Slowly(Duration, u16),
    /// Nothing, and the connection stays.
    Silence,
    /// Nothing, and the connection goes.
    Cut,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::with(status, "")
    }

    /// A status and more fields, each ended by CR and LF.
    pub(crate) fn with(status: u16, fields: &str) -> Self {
        Self::Bytes(format!(
            "HTTP/1.1 {status} Said\r\n{fields}content-length: 0\r\n\r\n"
        ))
    }
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) fields: HashMap<String, Vec<String>>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        match self.fields.get(name).map(Vec::as_slice) {
            Some([one]) => Some(one),
            None => None,
            Some(more) => panic!("{name} is there {} times", more.len()),
        }
    }
}

#[derive(Debug, Default)]
struct Memory {
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    written: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    memory: Arc<Memory>,
    task: JoinHandle<()>,
}

impl Endpoint {
    pub(crate) async fn answers(status: u16) -> Self {
        Self::start(move |_| Reply::status(status)).await
    }

    pub(crate) async fn start(reply: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), reply).await
    }

    pub(crate) async fn start_on(
        address: SocketAddr,
        reply: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = Arc::new(Memory::default());
        let reply = Arc::new(reply);
        let shared = Arc::clone(&memory);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&shared), Arc::clone(&reply)));
            }
        });
        Self {
            address,
            memory,
            task,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks?a=b", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.memory.received.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.memory.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of an endless answer were taken.
    pub(crate) fn written(&self) -> usize {
        self.memory.written.load(Ordering::SeqCst)
    }

    /// How many requests there were at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.memory.most.load(Ordering::SeqCst)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    memory: Arc<Memory>,
    reply: Arc<impl Fn(&Received) -> Reply + Send + Sync + 'static>,
) {
    while let Some(request) = read_request(&mut stream).await {
        let answer = reply(&request);
        memory.received.lock().unwrap().push(request);
        let now = memory.now.fetch_add(1, Ordering::SeqCst) + 1;
        memory.most.fetch_max(now, Ordering::SeqCst);
        // Others come in before it is answered.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        memory.now.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Reply::Bytes(bytes) => {
                if stream.write_all(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Slowly(delay, status) => {
                tokio::time::sleep(delay).await;
                let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Endless(head, more) => {
                let _ = stream.write_all(head.as_bytes()).await;
                let chunk = more.repeat(1024);
                while stream.write_all(chunk.as_bytes()).await.is_ok() {
                    memory.written.fetch_add(chunk.len(), Ordering::SeqCst);
                }
                return;
            }
            Reply::Silence => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                return;
            }
            Reply::Cut => return,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut request = Received {
        line: lines.next()?.to_owned(),
        ..Received::default()
    };
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let values = request.fields.entry(name.to_ascii_lowercase());
        values.or_default().push(value.to_owned());
    }
    let length: usize = request.field("content-length")?.parse().ok()?;
    request.body = bytes.split_off(end + 4);
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(request)
}
