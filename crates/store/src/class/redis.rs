//! What an error of redis' says: its first word, or what the client found out by itself.

use redis::{ErrorKind, RedisError};

use super::{Judgement, Phase, StoreErrorKind as Kind};

/// The first words that Redis has of its own. A script may answer with any word, a value among
/// them, so no other is shown.
const WORDS: &[&str] = &[
    "ASK",
    "BUSY",
    "BUSYGROUP",
    "BUSYKEY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "DENIED",
    "ERR",
    "EXECABORT",
    "INPROG",
    "INVALIDOBJ",
    "IOERR",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOGOODSLAVE",
    "NOGROUP",
    "NOMASTERLINK",
    "NOPERM",
    "NOPROTO",
    "NOQUORUM",
    "NOREPLICAS",
    "NOSCRIPT",
    "NOTBUSY",
    "NOTREADY",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
    "UNKILLABLE",
    "WRONGPASS",
    "WRONGTYPE",
];

/// Judges an error of the redis crate's that struck in `phase`.
///
/// A timeout of the client's is a lost connection: the script may have run.
#[must_use]
pub fn of_redis(error: &RedisError, phase: Phase) -> Judgement {
    if error.is_connection_refusal() {
        return Judgement::new(Kind::Unreachable, phase);
    }
    if let Some(code) = error.code() {
        let judgement = Judgement::new(by_word(code, error.detail(), phase), phase);
        return match WORDS.iter().find(|word| **word == code) {
            Some(word) => judgement.with_code(*word),
            None => judgement,
        };
    }
    let kind = match error.kind() {
        ErrorKind::AuthenticationFailed => Kind::Denied,
        ErrorKind::UnexpectedReturnType
        | ErrorKind::InvalidClientConfig
        | ErrorKind::RESP3NotSupported => Kind::Broken,
        ErrorKind::ClusterConnectionNotFound
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::NoValidReplicasFoundBySentinel
        | ErrorKind::EmptySentinelList => Kind::Unreachable,
        _ if phase == Phase::Connect => Kind::Unreachable,
        _ => Kind::Lost,
    };
    Judgement::new(kind, phase)
}

/// A script that stops half-way has done what it did before: an error from within one is only as
/// good as the script, and ours write last.
fn by_word(code: &str, detail: Option<&str>, phase: Phase) -> Kind {
    match code {
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" | "NOSCRIPT" => {
            Kind::Unreachable
        }
        "BUSY" | "NOREPLICAS" => Kind::Overloaded,
        "OOM" | "MISCONF" => Kind::Full,
        "READONLY" => Kind::ReadOnly,
        "NOPERM" | "NOAUTH" | "WRONGPASS" | "DENIED" => Kind::Denied,
        // The client limit comes as an ERR, before any work.
        "ERR" if detail.is_some_and(|it| it.starts_with("max number of clients")) => {
            Kind::Overloaded
        }
        // SCRIPT KILL: possible only while it has written nothing.
        "ERR" if detail.is_some_and(|it| it.contains("Script killed")) => Kind::Interrupted,
        "UNBLOCKED" if phase == Phase::Connect => Kind::Unreachable,
        "UNBLOCKED" => Kind::Interrupted,
        _ => Kind::Broken,
    }
}
