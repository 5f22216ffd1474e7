//! What Redis' answers say. A topic is one stream, so an error is hardly ever about one message.

use buttress_store::{Phase, StoreErrorKind, class::of_redis};
use redis::{RedisError, Value};

use crate::PublishError;

/// The answer to one XADD.
pub(super) fn judge(answer: Value) -> Result<(), PublishError> {
    match answer {
        // The entry's id.
        Value::BulkString(_) | Value::SimpleString(_) => Ok(()),
        Value::ServerError(error) => Err(of_error(&error.into())),
        _ => Err(PublishError::unknown("an answer that is none to XADD")),
    }
}

/// What an error means, of one command or of all of them. Its text is not repeated, only Redis' own
/// word for it.
pub(crate) fn of_error(error: &RedisError) -> PublishError {
    let judgement = of_redis(error, Phase::Statement);
    let word = judgement.code().unwrap_or_default();
    match judgement.kind() {
        StoreErrorKind::Lost => {
            PublishError::down("the connection to Redis ended, or it did not answer in time")
        }
        _ if word.is_empty() => PublishError::down("no connection to Redis"),
        _ => PublishError::down(format_args!("Redis answered {word}")),
    }
}

#[cfg(test)]
mod tests {
    use redis::{ErrorKind, RedisError};

    use super::*;
    use crate::PublishErrorKind::{Down, Unknown};

    #[test]
    fn an_error_is_about_all_and_shows_redis_own_word_alone() {
        for word in [
            "OOM",
            "WRONGTYPE",
            "READONLY",
            "NOPERM",
            "LOADING",
            "MISCONF",
            "ERR",
        ] {
            let answer = Value::ServerError(
                redis::parse_redis_value(format!("-{word} secret\r\n").as_bytes())
                    .and_then(Value::extract_error)
                    .unwrap_err()
                    .try_into()
                    .unwrap(),
            );
            let judged = judge(answer).unwrap_err();
            assert_eq!(judged.kind(), Down, "{word}");
            assert_eq!(judged.reason(), format!("Redis answered {word}"));
        }
        let lost = RedisError::from((ErrorKind::Io, "secret"));
        let judged = of_error(&lost);
        assert_eq!(judged.kind(), Down);
        assert!(!judged.reason().contains("secret"));
        assert_eq!(judge(Value::Nil).unwrap_err().kind(), Unknown);
        assert!(judge(Value::BulkString(b"1-0".to_vec())).is_ok());
    }
}
