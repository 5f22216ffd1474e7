//! RabbitMQ: a server of one's own, one for the whole test binary, names that only one test uses.
//!
//! A test that only needs a queue takes a [`fresh_name`]; a test that fills, restarts or kills the
//! server starts its own [`Server`], which takes some seconds.

mod name;

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

pub use self::name::{Name, fresh_name};
pub use crate::start_error::StartError;
use crate::{
    left_out::LeftOut,
    programs::{self, NotFound},
    shared::Shared,
    supervisor::{self, Description, Supervised},
    tally::{self, Store},
};

/// The variable that gives the tests a server. Theirs is then a user who may do anything in the
/// virtual host that it names; the server takes no message longer than [`LONGEST_MESSAGE`].
pub const URL_VARIABLE: &str = "BUTTRESS_TEST_RABBITMQ_URL";

static SHARED: Shared<Server> = Shared::new("RabbitMQ", URL_VARIABLE, Store::Rabbitmq);

/// The longest message that a private server takes, in bytes; its own default is 128 MiB. So a test
/// can send one that is too long without sending much.
pub const LONGEST_MESSAGE: usize = 512 * 1024;

/// Makes what the server reads, tells it where it is, and becomes it. All that it would look for in
/// the system's folders is in this one; nothing of the system's is read.
///
/// It is told that systemd runs it: then the script becomes the server instead of waiting for it,
/// and a signal reaches it.
const SCRIPT: &str = r#"
printf '[].\n' >plugins
cat >rabbitmq.conf <<END
disk_free_limit.absolute = 1MB
num_acceptors.tcp = 2
max_message_size = $3
END
export HOME="$PWD" RUNNING_UNDER_SYSTEMD=1 RABBITMQ_CONF_ENV_FILE=/dev/null
export RABBITMQ_NODENAME=buttress@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$1"
export RABBITMQ_MNESIA_BASE="$PWD/data" RABBITMQ_LOG_BASE="$PWD" RABBITMQ_LOGS=-
export RABBITMQ_ENABLED_PLUGINS_FILE="$PWD/plugins" RABBITMQ_CONFIG_FILE="$PWD/rabbitmq.conf"
export RABBITMQ_PID_FILE="$PWD/pid"
# One scheduler: it starts faster where there are few cores. Erlang's own network begins with the
# node and asks nobody for a port: else a daemon (epmd) would be started, and stay. The server looks
# for it once a minute and would have a small node start it, which the flags of all nodes prevent.
export ERL_AFLAGS="-start_epmd false"
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-sname buttress@localhost -erl_epmd_port $2 \
-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +A 4"
exec "$4"
"#;

/// The server's program: in `PATH` if all of an installation is there, or else Debian's.
///
/// # Errors
///
/// [`NotFound`] when RabbitMQ is not installed.
pub fn find() -> Result<PathBuf, NotFound> {
    // With its companion: what stands alone in Debian's PATH is a wrapper, which runs it as one
    // account in one folder.
    let name = "rabbitmq-server";
    let places = ["/usr/lib/rabbitmq/bin".into()];
    programs::find(name, &["rabbitmq-env"], &places).map(|folder| folder.join(name))
}

/// The server that [`URL_VARIABLE`] names, or else one of this test binary's own, which is
/// started at first use (blocking, for some seconds) and ends with the process.
///
/// # Errors
///
/// [`LeftOut`] when none is given and RabbitMQ is not installed; it is for the caller to register.
///
/// # Panics
///
/// When RabbitMQ is installed and does not start: that is a failure, not something to leave out.
pub fn shared_url() -> Result<String, LeftOut> {
    SHARED.url(Server::start, Server::url)
}

/// A private server on a free port of 127.0.0.1, in a directory of its own.
///
/// It ends with this value or this process, whichever goes first. Dropping it waits for its end.
/// Its only user is `guest`, with that password; it has no plugin.
#[derive(Debug)]
pub struct Server {
    supervised: Supervised,
}

impl Server {
    /// Starts one that keeps what is durable. Blocks until it accepts connections: some seconds.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of the server's log where there is one.
    pub fn start() -> Result<Self, StartError> {
        let program = find()?;
        // For Erlang's own network, which nobody uses; it does not start without.
        let network = free_port().map_err(|source| supervisor::StartError::Supervisor {
            name: "rabbitmq",
            source,
        })?;
        let supervised = Supervised::start(|port| describe(&program, port, network))?;
        tally::uses(Store::Rabbitmq);
        Ok(Self { supervised })
    }

    /// How to reach its virtual host `/`, as its only user.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "amqp://guest:guest@127.0.0.1:{}/%2f",
            self.supervised.port()
        )
    }

    /// Stops it in order, and waits for its end. One that has ended already is left alone.
    ///
    /// # Panics
    ///
    /// When it is still there a minute later.
    pub fn stop(&self) {
        self.supervised.stop();
    }

    /// Kills it and all its processes by SIGKILL, and waits for their end. Durable queues, and what
    /// was confirmed as persistent in them, are found again after [`restart`](Self::restart).
    ///
    /// # Panics
    ///
    /// When one is still there a minute later.
    pub fn kill(&self) {
        self.supervised.kill();
    }

    /// Starts it again on the same data and port, and waits until it accepts connections. One that
    /// still runs is stopped in order before.
    ///
    /// # Errors
    ///
    /// [`supervisor::StartError`], with the end of the server's log.
    pub fn restart(&self) -> Result<(), supervisor::StartError> {
        self.supervised.restart()
    }

    /// The server's process: another one after a restart.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.supervised.pid()
    }

    /// Its directory, which goes when it goes. The file `log` in it is the server's.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.supervised.directory()
    }
}

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

fn describe(program: &Path, port: u16, network: u16) -> Description {
    let numbers = [
        port.to_string(),
        network.to_string(),
        LONGEST_MESSAGE.to_string(),
    ];
    let mut words = ["-c", SCRIPT, "here"].map(OsString::from).to_vec();
    words.extend(numbers.map(OsString::from));
    words.push(program.into());
    Description::new("rabbitmq", |starting| {
        starting.has_said("Server startup complete")
    })
    .address_in_use("eaddrinuse")
    .step("/bin/sh", words)
}
