//! A connection that is made when it is needed, and made again when it is gone.

use std::{
    fmt,
    sync::{
        Arc, Mutex as BlockingMutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use lapin::{
    Channel, Connection, ConnectionProperties, Error, options::ConfirmSelectOptions, uri::AMQPUri,
};
use tokio::{sync::Mutex, task::JoinHandle, time::timeout};

use crate::{PolicyError, PublishError};

/// How long one attempt to connect may take, whoever waits for it.
const ATTEMPT: Duration = Duration::from_secs(30);
/// How many channels are kept for the next batches. A relay has as many batches under way as it
/// has workers.
const IDLE: usize = 16;

type Connect = dyn Fn() -> BoxFuture<'static, lapin::Result<Connection>> + Send + Sync;

/// A connection to RabbitMQ, for publishers or for consumers. Clones share it. (The broker may stop
/// reading from one that publishes, and then hears no acknowledgement over it.)
///
/// It is made when something is first published or consumed, and made again when it is gone: one
/// attempt at a time, each for at most 30 seconds, and only while somebody wants it. It belongs to
/// the tokio runtime in which it was made, and has a thread of its own. `Debug` does not show the
/// URI.
#[derive(Clone)]
pub struct RabbitConnection {
    inner: Arc<Inner>,
}

struct Inner {
    connect: Box<Connect>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Live>>,
    /// Kept when whoever waits for it goes: a broker that does not answer is not asked by ever
    /// more connections at once.
    attempt: Option<JoinHandle<Option<Connection>>>,
}

/// A connection, and channels on it on which nothing is under way.
pub(crate) struct Live {
    connection: Connection,
    idle: BlockingMutex<Vec<Channel>>,
    left: AtomicBool,
}

impl RabbitConnection {
    /// A connection to the broker of this URI, `amqp://user:password@host:port/vhost`; `%2f` is the
    /// virtual host `/`. Nothing is connected yet.
    ///
    /// `amqps` needs one of lapin's features for TLS; turn it on in your own `Cargo.toml`.
    ///
    /// # Errors
    ///
    /// When it is no such URI. It is not repeated.
    pub fn new(uri: &str) -> Result<Self, PolicyError> {
        let uri: AMQPUri = uri
            .parse()
            .map_err(|_| PolicyError::new("uri", "amqp://user:password@host:port/vhost"))?;
        Ok(Self::with(move || {
            let uri = uri.clone();
            let properties =
                ConnectionProperties::default().with_connection_name("buttress-outbox".into());
            async move { Connection::connect_uri(uri, properties).await }
        }))
    }

    /// A connection that `connect` makes, each time that one is needed: with a TLS configuration,
    /// credentials that change, another name. Leave lapin's own recovery off.
    pub fn with<F, Fut>(connect: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = lapin::Result<Connection>> + Send + 'static,
    {
        let state = Mutex::default();
        let connect = Box::new(move || -> BoxFuture<'static, _> { Box::pin(connect()) });
        let inner = Arc::new(Inner { connect, state });
        Self { inner }
    }

    /// The connection that is there, or else a new one. Dropped, the attempt goes on, and the next
    /// caller finds it.
    pub(crate) async fn live(&self) -> Result<Arc<Live>, PublishError> {
        let mut state = self.inner.state.lock().await;
        if let Some(live) = &state.live {
            if live.connection.status().connected() && !live.left.load(Ordering::Relaxed) {
                return Ok(live.clone());
            }
            state.live = None;
        }
        let attempt = state.attempt.get_or_insert_with(|| {
            let connecting = timeout(ATTEMPT, (self.inner.connect)());
            tokio::spawn(async move { connecting.await.ok().and_then(Result::ok) })
        });
        let made = attempt.await;
        state.attempt = None;
        let Ok(Some(connection)) = made else {
            return Err(PublishError::down("no connection to the broker"));
        };
        let idle = BlockingMutex::default();
        let left = AtomicBool::new(false);
        let live = Arc::new(Live {
            connection,
            idle,
            left,
        });
        state.live = Some(live.clone());
        Ok(live)
    }
}

impl Live {
    /// Whether the broker takes nothing at present: memory or disk are short there.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Leaves a connection that does not answer: the next one who asks gets another. Those who still
    /// use it are not disturbed.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// How long a frame may be, in bytes. A message's headers must fit into one.
    pub(super) fn longest_frame(&self) -> usize {
        match self.connection.configuration().frame_max() {
            0 => usize::MAX,
            longest => usize::try_from(longest).unwrap_or(usize::MAX),
        }
    }

    /// A new channel, without confirms.
    pub(crate) async fn channel(&self) -> Result<Channel, Error> {
        self.connection.create_channel().await
    }

    /// A channel with confirms on which nothing is under way, for one batch alone: lapin hands what
    /// was returned to whichever confirm comes next, so batches must not share one.
    pub(super) async fn take(&self) -> Result<Channel, Error> {
        loop {
            let Some(channel) = self.idle().pop() else {
                break;
            };
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.connection.create_channel().await?;
        let options = ConfirmSelectOptions::default();
        channel.confirm_select(options).await?;
        Ok(channel)
    }

    /// Gives back a channel all of whose confirms have come.
    pub(super) fn give_back(&self, channel: Channel) {
        let mut idle = self.idle();
        if idle.len() < IDLE && channel.status().connected() {
            idle.push(channel);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RabbitConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitConnection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_refused_at_once_and_never_shown() {
        for uri in [
            "",
            "secret",
            "http://u:secret@h/",
            "amqp://u:secret@h:port/",
        ] {
            let error = RabbitConnection::new(uri).unwrap_err();
            assert!(!format!("{error}{error:?}").contains("secret"));
        }
        let connection = RabbitConnection::new("amqp://u:secret@h/%2f").unwrap();
        assert!(!format!("{connection:?}").contains("secret"));
    }
}
