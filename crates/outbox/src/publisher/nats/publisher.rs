//! The publisher: all of a batch is written, and then all confirms are awaited.

use std::{fmt, future::IntoFuture as _, sync::Arc, time::Duration};

use async_nats::jetstream::{
    self,
    context::{GetStreamErrorKind, PublishAckFuture},
    message::PublishMessage,
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::timeout;

use super::{
    Subjects,
    connection::Connection,
    event,
    judge::{Standing, Trouble},
    subject::NoSubject,
};
use crate::{Delivery, Message, PolicyError, PublishError, Publisher};

/// How long writing, confirming and asking may each take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What all the rest may take: rendering, a loaded machine.
const MARGIN: Duration = Duration::from_secs(1);

/// Publishes to one stream of NATS JetStream, each message as an event of CloudEvents in binary
/// mode, and believes nothing but the stream's confirm. Cheap to clone.
///
/// All of a batch is written before the first confirm is awaited. Of one key the relay never hands
/// over two at once, so a message that is not confirmed is overtaken by none of its key.
///
/// | the stream, or the server | the message is |
/// | --- | --- |
/// | confirms, also that it had it already | delivered |
/// | is not connected, does not answer, is full, sealed, out of resources, is not there | down |
/// | takes no subject of the topic | down |
/// | takes some subjects of the topic, and not this message's | refused, and that counts |
/// | says that the message is too long, or its headers are | refused for good |
/// | answers when it is asked, but did not confirm | unknown |
/// | says anything else that is the request's fault | refused, and that counts |
///
/// `Nats-Msg-Id` is made of topic, source and id, so what was confirmed and comes again (the
/// confirm was lost, the relay died) is dropped by the stream, within its
/// `duplicate_window`; two minutes, unless it says otherwise. After that it is stored twice, and
/// an inbox takes it once. `Nats-Expected-Stream` keeps it out of any other stream.
///
/// Dropping the future of [`publish`](Publisher::publish) leaves what was written: the stream may
/// have taken it or not.
#[derive(Clone)]
pub struct NatsPublisher {
    context: jetstream::Context,
    stream: Arc<str>,
    subjects: Subjects,
    timeout: Duration,
}

/// A message that waits for its confirm, by its place in the batch.
struct Written {
    place: usize,
    confirm: PublishAckFuture,
}

impl NatsPublisher {
    /// A publisher to the stream of that name, which is there already: making it is its operator's.
    ///
    /// A context with a prefix or a domain is used as it is, but for its timeout.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], for a name that no stream can have.
    pub fn new(
        context: jetstream::Context,
        stream: impl AsRef<str>,
        subjects: Subjects,
    ) -> Result<Self, PolicyError> {
        let stream = stream.as_ref();
        let fits = |byte: u8| byte.is_ascii_graphic() && !b".*>/\\".contains(&byte);
        if stream.is_empty() || stream.len() > 255 || !stream.bytes().all(fits) {
            let range = "1 to 255 of visible ASCII without . * > / \\";
            return Err(PolicyError::new("stream", range));
        }
        let publisher = Self {
            context,
            stream: stream.into(),
            subjects,
            timeout: TIMEOUT,
        };
        publisher.with_timeout(TIMEOUT)
    }

    /// The same with another longest wait for the confirms of a batch, 10 ms to 5 min; 2 s by
    /// default. Writing the batch, and asking for the stream if confirms are missing, may each
    /// take as long.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn with_timeout(mut self, timeout: Duration) -> Result<Self, PolicyError> {
        let range = Duration::from_millis(10)..=Duration::from_secs(300);
        if !range.contains(&timeout) {
            return Err(PolicyError::new("timeout", "10 ms to 5 min"));
        }
        self.timeout = timeout;
        self.context.set_timeout(timeout);
        Ok(self)
    }

    /// The longest that publishing a batch can take: give the relay's policy a publish deadline
    /// that is no shorter. 7 seconds with the default timeout.
    #[must_use]
    pub const fn longest_publish(&self) -> Duration {
        self.timeout.saturating_mul(3).saturating_add(MARGIN)
    }

    /// Renders a message and hands it to the connection.
    async fn write(&self, delivery: &Delivery) -> Result<PublishAckFuture, Refusal> {
        let message = delivery.message();
        let subject = self.subjects.of(message)?;
        let headers = event::headers(delivery, &self.stream);
        let headers =
            headers.map_err(|unfit| Refusal::Known(PublishError::refused_for_good(unfit)))?;
        let publish = PublishMessage::build()
            .payload(message.payload().clone())
            .headers(headers);
        let written = self.context.send_publish(subject, publish).await;
        written.map_err(|error| match Trouble::of(&error) {
            // It is ours to write, so this is the client's end.
            Trouble::NoConfirm | Trouble::Silence => Refusal::Known(not_connected()),
            trouble => Refusal::Trouble(trouble),
        })
    }

    /// Asks for the stream.
    async fn standing(&self, connection: &Connection) -> Standing {
        let asked = tokio::select! {
            biased;
            asked = timeout(self.timeout, self.context.get_stream(&*self.stream)) => asked,
            () = connection.lost() => return Standing::Away("the connection was lost"),
        };
        match asked {
            Ok(Ok(stream)) => {
                let subjects = &stream.cached_info().config.subjects;
                Standing::Takes(subjects.iter().map(ToString::to_string).collect())
            }
            Ok(Err(error)) => match error.kind() {
                GetStreamErrorKind::JetStream(_) => Standing::Away("the stream is not there"),
                _ => Standing::Away("the server does not answer for the stream"),
            },
            Err(_) => Standing::Away("the server does not answer for the stream in time"),
        }
    }

    fn judge(&self, trouble: &Trouble, standing: &Standing, message: &Message) -> PublishError {
        let subjects = (self.subjects.of(message), self.subjects.all_like(message));
        match subjects {
            (Ok(subject), Ok(all_like)) => trouble.judge(standing, &subject, &all_like),
            (Err(none), _) | (_, Err(none)) => no_subject(none),
        }
    }
}

/// Why a message was not written.
enum Refusal {
    Known(PublishError),
    Trouble(Trouble),
}

impl From<NoSubject> for Refusal {
    fn from(none: NoSubject) -> Self {
        Self::Known(no_subject(none))
    }
}

fn no_subject(none: NoSubject) -> PublishError {
    match none {
        NoSubject::Topic => PublishError::down(none),
        NoSubject::TooLong => PublishError::refused_for_good(none),
    }
}

fn not_connected() -> PublishError {
    PublishError::down("no connection to the server")
}

/// What is known of a message's fate.
enum Fate {
    Known(Result<(), PublishError>),
    Trouble(Trouble),
}

#[async_trait::async_trait]
impl Publisher for NatsPublisher {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        // Else the client would keep what is written, and send it once it is connected again: by
        // then another relay may have gone on.
        let Some(connection) = Connection::of(&self.context.client()) else {
            return batch.iter().map(|_| Err(not_connected())).collect();
        };
        let mut fates: Vec<Option<Fate>> = batch.iter().map(|_| None).collect();
        let mut confirms = FuturesUnordered::new();
        let writing = async {
            let confirms = &mut confirms;
            for (place, delivery) in batch.iter().enumerate() {
                if !connection.is_up() {
                    break;
                }
                match self.write(delivery).await {
                    Ok(confirm) => {
                        confirms.push(Written { place, confirm }.confirmed(&self.stream));
                    }
                    Err(Refusal::Known(error)) => fates[place] = Some(Fate::Known(Err(error))),
                    Err(Refusal::Trouble(trouble)) => fates[place] = Some(Fate::Trouble(trouble)),
                }
            }
        };
        // Ended by its deadline, the connection takes no more: what was not written is not tried.
        let _ = timeout(self.timeout, writing).await;
        gather(confirms, &connection, &mut fates).await;
        let asks = |fate: &Option<Fate>| matches!(fate, Some(Fate::Trouble(trouble)) if trouble.needs_standing());
        let standing = if fates.iter().any(asks) {
            self.standing(&connection).await
        } else {
            Standing::Takes(Vec::new())
        };
        let judged = fates
            .into_iter()
            .zip(batch)
            .map(|(fate, delivery)| match fate {
                Some(Fate::Known(known)) => known,
                Some(Fate::Trouble(trouble)) => {
                    Err(self.judge(&trouble, &standing, delivery.message()))
                }
                None => Err(not_connected()),
            });
        judged.collect()
    }
}

impl Written {
    /// Ready with the stream's word. Its timeout runs from the first time it is looked at.
    async fn confirmed(self, stream: &str) -> (usize, Fate) {
        let fate = match self.confirm.into_future().await {
            Ok(confirm) if confirm.stream == stream => Fate::Known(Ok(())),
            Ok(_) => Fate::Trouble(Trouble::NoConfirm),
            Err(error) => Fate::Trouble(Trouble::of(&error)),
        };
        (self.place, fate)
    }
}

/// Takes in confirms until they are all there, or can come no more.
async fn gather<F: Future<Output = (usize, Fate)>>(
    mut confirms: FuturesUnordered<F>,
    connection: &Connection,
    fates: &mut [Option<Fate>],
) {
    let mut lost = std::pin::pin!(connection.lost());
    loop {
        let next = tokio::select! {
            biased;
            next = confirms.next() => next,
            () = &mut lost => None,
        };
        let Some((place, fate)) = next else { return };
        fates[place] = Some(fate);
    }
}

impl fmt::Debug for NatsPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsPublisher")
            .field("stream", &self.stream)
            .field("subjects", &self.subjects)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
