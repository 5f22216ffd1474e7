//! What it means that the stream did not confirm a message: of the message, or of the destination.

use std::error::Error as _;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{self, PublishErrorKind},
};

use super::subject::overlap;
use crate::PublishError;

/// What came instead of a confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server's own word, by its numbers: HTTP's, and JetStream's.
    Said {
        status: usize,
        code: u64,
        about_subject: bool,
    },
    /// Nobody takes the subject.
    Nobody,
    /// Nothing came in time.
    Silence,
    /// Something came that is no confirm, or another stream's.
    NoConfirm,
    /// It does not fit what the server takes of a client.
    TooLarge,
    /// It was not written.
    NotWritten,
}

/// What is known of the stream, asked because of a trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It answers, and takes these subjects.
    Takes(Vec<String>),
    /// It is not there, or does not answer.
    Away(&'static str),
}

impl Trouble {
    pub(super) fn of(error: &context::PublishError) -> Self {
        let said = error
            .source()
            .and_then(|it| it.downcast_ref::<jetstream::Error>());
        match (error.kind(), said) {
            (_, Some(said)) => Self::Said {
                status: said.code(),
                code: said.error_code().0,
                about_subject: said.to_string().contains("per subject"),
            },
            (PublishErrorKind::StreamNotFound, None) => Self::Nobody,
            (PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe, None) => Self::Silence,
            (PublishErrorKind::MaxPayloadExceeded, None) => Self::TooLarge,
            (PublishErrorKind::MaxAckPending, None) => Self::NotWritten,
            (_, None) => Self::NoConfirm,
        }
    }

    /// Whether the stream must be asked before it can be judged.
    pub(super) const fn needs_standing(&self) -> bool {
        match self {
            Self::Nobody | Self::Silence | Self::NoConfirm => true,
            Self::Said { code, .. } => *code == ErrorCode::STREAM_NOT_MATCH.0,
            Self::TooLarge | Self::NotWritten => false,
        }
    }

    /// The word of the destination. `subject` is the message's, `all_like` what all of its topic
    /// have.
    ///
    /// Poison is not an outage, and an outage no poison: a message is blamed only when the stream
    /// answers, and would take another one of the topic.
    pub(super) fn judge(&self, standing: &Standing, subject: &str, all_like: &str) -> PublishError {
        let takes = match (standing, self.needs_standing()) {
            (Standing::Away(why), true) => return PublishError::down(why),
            (Standing::Takes(takes), _) => takes.as_slice(),
            (Standing::Away(_), false) => &[],
        };
        let fits = |of: &str| takes.iter().any(|filter| overlap(filter, of));
        match self {
            Self::Said { code, .. } if *code == ErrorCode::STREAM_NOT_MATCH.0 => {
                unaddressed(fits(subject), fits(all_like))
            }
            Self::Nobody => unaddressed(fits(subject), fits(all_like)),
            Self::Said {
                status,
                code,
                about_subject,
            } => said(*status, ErrorCode(*code), *about_subject),
            Self::Silence => PublishError::unknown("the stream answers, but did not confirm this"),
            Self::NoConfirm => PublishError::unknown("the answer is no confirm of the stream"),
            Self::TooLarge => PublishError::refused_for_good(
                "payload and headers are more than the server's max_payload",
            ),
            Self::NotWritten => PublishError::skipped(),
        }
    }
}

/// Nobody took the subject, or another stream did.
fn unaddressed(takes_it: bool, takes_others: bool) -> PublishError {
    if takes_it {
        PublishError::down("the stream takes the subject, and has nobody who answers for it")
    } else if takes_others {
        PublishError::refused("the stream does not take the message's subject")
    } else {
        PublishError::down("the stream takes no subject of the topic")
    }
}

fn said(status: usize, code: ErrorCode, about_subject: bool) -> PublishError {
    let reason = format!("the stream says {}", code.0);
    match code {
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
            PublishError::refused_for_good("it is longer than the stream's max_msg_size")
        }
        ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            PublishError::refused_for_good("its headers are more than 64 KiB")
        }
        // Its subject alone is full: others go on, and nothing is held against it.
        ErrorCode::STREAM_STORE_FAILED if about_subject => {
            PublishError::unknown("the stream holds as many of its subject as it may")
        }
        ErrorCode::STREAM_STORE_FAILED => PublishError::down("the stream is full, or cannot write"),
        ErrorCode::STREAM_SEALED => PublishError::down("the stream is sealed"),
        _ if status == 400 => PublishError::refused(reason),
        _ => PublishError::down(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublishErrorKind::{self as Kind, Down, Refused, RefusedForGood, Skipped, Unknown};

    fn kind(trouble: &Trouble, standing: &Standing) -> Kind {
        let error = trouble.judge(standing, "shop.7.orders", "shop.*.orders");
        error.kind()
    }

    fn takes(filters: &[&str]) -> Standing {
        Standing::Takes(filters.iter().map(|it| (*it).to_owned()).collect())
    }

    fn saying(status: usize, code: u64) -> Trouble {
        Trouble::Said {
            status,
            code,
            about_subject: false,
        }
    }

    #[test]
    fn poison_is_not_an_outage_and_an_outage_is_no_poison() {
        let away = Standing::Away("away");
        let not_match = saying(400, ErrorCode::STREAM_NOT_MATCH.0);
        for trouble in [&Trouble::Nobody, &not_match] {
            for (standing, expected) in [
                (&away, Down),
                // Its leader changes.
                (&takes(&["shop.>"]), Down),
                // Only some of the topic's subjects are taken, and this one is not.
                (&takes(&["shop.8.orders", "other"]), Refused),
                // None is: whoever set it up must look.
                (&takes(&["other.>"]), Down),
                (&takes(&[]), Down),
            ] {
                assert_eq!(
                    kind(trouble, standing),
                    expected,
                    "{trouble:?} {standing:?}"
                );
            }
        }
        for trouble in [Trouble::Silence, Trouble::NoConfirm] {
            assert_eq!(kind(&trouble, &away), Down);
            assert_eq!(kind(&trouble, &takes(&["shop.>"])), Unknown);
        }
    }

    #[test]
    fn each_word_of_the_server_is_about_the_message_or_about_the_stream() {
        let away = Standing::Away("away");
        for (trouble, expected) in [
            (Trouble::TooLarge, RefusedForGood),
            (Trouble::NotWritten, Skipped),
            (saying(400, 10054), RefusedForGood),
            (saying(400, 10097), RefusedForGood),
            (saying(503, 10077), Down),
            (saying(400, 10109), Down),
            (saying(503, 10008), Down),
            (saying(503, 10076), Down),
            (saying(404, 10059), Down),
            (saying(500, 10002), Down),
            (saying(400, 10003), Refused),
            (saying(400, 10071), Refused),
        ] {
            assert_eq!(kind(&trouble, &away), expected, "{trouble:?}");
        }
        let full = Trouble::Said {
            status: 503,
            code: 10077,
            about_subject: true,
        };
        assert_eq!(kind(&full, &away), Unknown);
    }
}
