//! What tonic returns, judged; and the server's pushback.

use std::time::Duration;

use tonic::{Code, Status};

use crate::{Classify, Verdict};

/// Judges a gRPC status.
///
/// | code | verdict |
/// | --- | --- |
/// | `RESOURCE_EXHAUSTED` | not done |
/// | `UNAVAILABLE`, `DEADLINE_EXCEEDED`, `CANCELLED`, `UNKNOWN`, `INTERNAL` | unknown: the connection may have gone while it was under way |
/// | `DATA_LOSS` | final |
/// | all others | final: an answer with a good reason |
///
/// `grpc-retry-pushback-ms` (gRPC A6) is when to come back; a negative one, or one that is no
/// number, means never, so the verdict is final then.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct ByCode;

impl<T> Classify<T, Status> for ByCode {
    fn classify(&self, result: Result<&T, &Status>) -> Verdict {
        let Err(status) = result else {
            return Verdict::success();
        };
        let verdict = match status.code() {
            Code::Ok => Verdict::success(),
            Code::ResourceExhausted => Verdict::not_done(),
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal => Verdict::unknown(),
            Code::DataLoss => Verdict::broken(),
            _ => Verdict::refused(),
        };
        let Some(pushback) = status.metadata().get("grpc-retry-pushback-ms") else {
            return verdict;
        };
        let millis = pushback.to_str().ok().and_then(|it| it.parse::<u32>().ok());
        match millis {
            Some(millis) => verdict.with_retry_after(Duration::from_millis(millis.into())),
            None => Verdict::broken(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    fn judge(code: Code, pushback: Option<&'static str>) -> Verdict {
        let mut status = Status::new(code, "");
        if let Some(pushback) = pushback {
            let value = pushback.parse().unwrap();
            status
                .metadata_mut()
                .insert("grpc-retry-pushback-ms", value);
        }
        ByCode.classify(Err::<&(), _>(&status))
    }

    #[test]
    fn each_code_has_its_class() {
        for (code, class) in [
            (Code::ResourceExhausted, Class::NotDone),
            (Code::Unavailable, Class::Unknown),
            (Code::DeadlineExceeded, Class::Unknown),
            (Code::NotFound, Class::Final),
            (Code::DataLoss, Class::Final),
        ] {
            assert_eq!(judge(code, None).class(), class, "{code:?}");
        }
    }

    #[test]
    fn f14_and_f15_a_pushback_says_when_or_never() {
        let asked = judge(Code::Unavailable, Some("500")).retry_after();
        assert_eq!(asked, Some(Duration::from_millis(500)));
        for never in ["-1", "soon", "99999999999"] {
            let verdict = judge(Code::Unavailable, Some(never));
            assert_eq!(verdict.class(), Class::Final, "{never}");
        }
    }
}
