//! A TCP proxy on the test's own runtime: it passes on, swallows, or cuts.
//!
//! On a runtime of one thread no answer can come before the one who asks has waited for it, so a
//! cancel sweep through it meets every await.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What it does with what it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes it on.
    Pass,
    /// Swallows it, in both directions, and lets the connection stand.
    Hole,
    /// Cuts the connection at the next thing the client says, before the server hears it.
    CutBefore,
    /// Cuts it once the server has heard it, and gives no answer.
    CutAfter,
}

pub(crate) struct Proxy {
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// A proxy before the server that `url` names, and the URL that leads through it.
    pub(crate) async fn before(url: &str) -> (Self, String) {
        let (rest, path) = url.rsplit_once('/').unwrap();
        let server = rest.rsplit_once(['@', '/']).unwrap().1.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, told) = watch::channel(Mode::Pass);
        let target = server.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&target).await {
                    carry(client, server, &told);
                }
            }
        });
        let through = format!("{}/{path}", rest.replace(&server, &address.to_string()));
        (Self { mode }, through)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

fn carry(client: TcpStream, server: TcpStream, mode: &watch::Receiver<Mode>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (out, back) = (mode.clone(), mode.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = pump(from_client, to_server, &out, true) => {}
            () = pump(from_server, to_client, &back, false) => {}
        }
    });
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mode: &watch::Receiver<Mode>,
    outward: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let now = *mode.borrow();
        match now {
            Mode::CutBefore if outward => return,
            Mode::Hole => continue,
            // The server's answer is for nobody.
            Mode::CutAfter if !outward => return,
            _ => {}
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
