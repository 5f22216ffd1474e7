//! What the broker's answers say: of a message, or of the broker.

use lapin::{
    Error, ErrorKind,
    message::BasicReturnMessage,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::AMQPValue,
};

use super::event::SEQUENCE;
use crate::PublishError;

/// What became of one message, as far as its confirm says.
#[derive(Debug)]
pub(super) enum Confirmed {
    /// The broker has it.
    Taken,
    /// The broker has said that it has it, and had returned it.
    Returned,
    /// The same, or not: what was returned cannot be told.
    PerhapsReturned,
    /// The broker could not take it.
    NotTaken,
    /// The channel or the connection ended before.
    Ended(Error),
    /// Nothing came in time.
    Silent,
}

impl Confirmed {
    pub(super) const fn is_an_answer(&self) -> bool {
        !matches!(self, Self::Ended(_) | Self::Silent)
    }

    /// Whether the channel ended over one message: it is longer than the broker takes, say. The
    /// broker does not say which.
    pub(super) fn may_be_about_one(&self) -> bool {
        matches!(self, Self::Ended(error) if soft(error) == Some(AMQPSoftError::PRECONDITIONFAILED))
    }

    /// What it means for a message that was sent alone or not, to a broker that blocks publishers
    /// or does not. The broker's own words are not repeated.
    pub(super) fn judge(&self, alone: bool, is_blocked: bool) -> Result<(), PublishError> {
        Err(match self {
            Self::Taken => return Ok(()),
            Self::Returned => {
                PublishError::refused("no queue is bound for it: the broker returned it")
            }
            Self::PerhapsReturned => PublishError::unknown("the broker returned some message"),
            Self::NotTaken => PublishError::unknown(
                "the broker could not take it: a full queue that rejects, or one that failed",
            ),
            Self::Ended(_) if alone && self.may_be_about_one() => PublishError::refused(
                "the broker closed the channel over it (406): it may be too long",
            ),
            Self::Ended(error) => ended(error),
            Self::Silent if is_blocked => blocked(),
            Self::Silent => PublishError::down("no confirm in time"),
        })
    }
}

/// What was returned on a channel: by its place in the outbox, which is in a header of it.
///
/// lapin hands a returned message to whichever confirm is done next, and of several that one answer
/// confirms, to any. So what was returned with a confirm says nothing about that confirm's message.
#[derive(Debug, Default)]
pub(super) struct Returned {
    sequences: Vec<Vec<u8>>,
    /// One was returned that has no place: any of them may be the one.
    unknown: bool,
}

impl Returned {
    pub(super) fn add(&mut self, message: &BasicReturnMessage) {
        let headers = message.properties.headers().as_ref();
        let sequence = headers.and_then(|headers| headers.inner().get(SEQUENCE));
        match sequence {
            Some(AMQPValue::LongString(sequence)) => {
                self.sequences.push(sequence.as_bytes().to_vec());
            }
            _ => self.unknown = true,
        }
    }

    /// Says that not all confirms of the batch have come. Each confirm takes a returned message with
    /// it while there is one, so if none has, there was none before the last of them; but if one
    /// has, others may have stayed behind, those of confirmed messages too.
    pub(super) fn lacks_confirms(&mut self) {
        self.unknown |= !self.sequences.is_empty();
    }

    /// What became of the message of this place, which was confirmed.
    pub(super) fn what_of(&self, sequence: &str) -> Confirmed {
        if self.sequences.iter().any(|it| it == sequence.as_bytes()) {
            Confirmed::Returned
        } else if self.unknown {
            Confirmed::PerhapsReturned
        } else {
            Confirmed::Taken
        }
    }
}

pub(super) fn blocked() -> PublishError {
    PublishError::down("the broker blocks publishers: its memory or its disk is short")
}

fn soft(error: &Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// The end of a channel or a connection. The broker's own words are not repeated.
pub(crate) fn ended(error: &Error) -> PublishError {
    let ErrorKind::ProtocolError(protocol) = error.kind() else {
        return PublishError::down("the connection to the broker ended");
    };
    let code = protocol.get_id();
    match soft(error) {
        Some(AMQPSoftError::NOTFOUND) => {
            PublishError::down("the exchange or the queue does not exist (404)")
        }
        Some(AMQPSoftError::ACCESSREFUSED) => PublishError::down("it is not permitted (403)"),
        Some(_) => PublishError::down(format_args!("the broker closed the channel ({code})")),
        None => PublishError::down(format_args!("the broker closed the connection ({code})")),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPHardError};

    use super::*;
    use crate::PublishErrorKind::{self, Down, Refused, Unknown};

    fn protocol(kind: AMQPErrorKind) -> Error {
        ErrorKind::ProtocolError(AMQPError::new(kind, "secret".into())).into()
    }

    #[test]
    fn only_a_precondition_may_be_about_a_message_and_only_about_one_alone() {
        use AMQPSoftError::{
            ACCESSREFUSED, CONTENTTOOLARGE, NOTFOUND, PRECONDITIONFAILED, RESOURCELOCKED,
        };
        let rows: [(Error, PublishErrorKind); 8] = [
            (protocol(PRECONDITIONFAILED.into()), Refused),
            (protocol(NOTFOUND.into()), Down),
            (protocol(ACCESSREFUSED.into()), Down),
            (protocol(RESOURCELOCKED.into()), Down),
            (protocol(CONTENTTOOLARGE.into()), Down),
            (protocol(AMQPHardError::CONNECTIONFORCED.into()), Down),
            (protocol(AMQPHardError::FRAMEERROR.into()), Down),
            (ErrorKind::MissingHeartbeatError.into(), Down),
        ];
        for (error, kind) in rows {
            let ended = Confirmed::Ended(error);
            let judged = ended.judge(true, false).unwrap_err();
            assert_eq!(judged.kind(), kind, "{ended:?}");
            assert!(!judged.reason().contains("secret"), "{judged}");
            assert_eq!(ended.judge(false, false).unwrap_err().kind(), Down);
        }
    }

    #[test]
    fn nothing_but_a_confirm_without_a_return_is_delivered() {
        let mut returned = Returned::default();
        assert!(returned.what_of("7").judge(true, false).is_ok());
        returned.sequences.push(b"7".to_vec());
        let kind = |confirmed: Confirmed| confirmed.judge(true, false).map_err(|it| it.kind());
        assert_eq!(kind(returned.what_of("7")), Err(Refused));
        assert_eq!(kind(returned.what_of("8")), Ok(()));
        // Another's return may not have come with any confirm yet.
        returned.lacks_confirms();
        assert_eq!(kind(returned.what_of("7")), Err(Refused));
        assert_eq!(kind(returned.what_of("8")), Err(Unknown));
        let mut nothing = Returned::default();
        nothing.lacks_confirms();
        assert_eq!(kind(nothing.what_of("8")), Ok(()));
        assert_eq!(kind(Confirmed::NotTaken), Err(Unknown));
        assert_eq!(kind(Confirmed::Silent), Err(Down));
    }
}
