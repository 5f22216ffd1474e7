//! A cluster of three nodes, each a private server.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Server, StartError};

/// How many nodes it has: fewer cannot agree on which of them is gone.
const NODES: u16 = 3;
/// How many slots a cluster has, by its specification.
const SLOTS: u16 = 16_384;
/// How long the nodes may take to know each other.
const FORMED: Duration = Duration::from_secs(60);
/// How soon they are asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// Three nodes without replicas, which share all slots in equal parts.
///
/// They end with this value or this process, whichever goes first.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts one. Blocks until each node says that all slots are served, for a few seconds.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of a server's log where there is one.
    ///
    /// # Panics
    ///
    /// When a node does not do as it is told, or they do not know each other within a minute.
    pub fn start() -> Result<Self, StartError> {
        let nodes: Vec<Server> = (0..NODES)
            .map(|_| Server::start_as_node())
            .collect::<Result<_, _>>()?;
        for (number, node) in (0..NODES).zip(&nodes) {
            let share = |number: u16| u32::from(SLOTS) * u32::from(number) / u32::from(NODES);
            let (first, last) = (share(number), share(number + 1) - 1);
            told(node, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            for other in &nodes[..usize::from(number)] {
                let (port, bus) = other.ports();
                told(node, &format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
            }
        }
        let cluster = Self { nodes };
        cluster.wait();
        Ok(cluster)
    }

    /// How to reach each node.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    fn wait(&self) {
        let deadline = Instant::now() + FORMED;
        for node in &self.nodes {
            loop {
                let answer = ask(node, "CLUSTER INFO");
                let info = answer.as_deref().unwrap_or_default();
                let nodes = format!("cluster_known_nodes:{NODES}\r\n");
                if info.contains("cluster_state:ok\r\n") && info.contains(&nodes) {
                    break;
                }
                assert!(Instant::now() < deadline, "no cluster: {answer:?}");
                sleep(AGAIN);
            }
        }
    }
}

/// A free port for the nodes' talk among themselves. The usual one, 10 000 above the other, may be
/// more than a port can be.
pub(super) fn bus_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Says a command to a node that must agree.
fn told(node: &Server, command: &str) {
    let answer = ask(node, command);
    let agreed = matches!(&answer, Ok(answer) if answer.starts_with("+OK"));
    assert!(agreed, "{command}: {answer:?}");
}

/// What a node answers to a command, as it came over the wire: without a driver.
fn ask(node: &Server, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.ports().0))?;
    stream.set_read_timeout(Some(FORMED))?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
