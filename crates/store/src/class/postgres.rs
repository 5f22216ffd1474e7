//! What an SQLSTATE of PostgreSQL's says (its manual's appendix A).

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::{Judgement, Phase, StoreErrorKind as Kind};

/// Judges an answer of the server's. One below FATAL means that the statement was taken back.
pub(super) fn judge(error: &PgDatabaseError, phase: Phase) -> Judgement {
    let code = error.code();
    let ended = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
    let kind = match before_work(code) {
        Some(kind) => kind,
        // The server goes: before, within or after the work, and it does not say which.
        None if ended && phase == Phase::Connect => Kind::Unreachable,
        None if ended => Kind::Lost,
        None => answered(code),
    };
    let judgement = Judgement::new(kind, phase).with_code(code.to_owned());
    match code {
        // transaction_resolution_unknown, statement_completion_unknown
        "08007" | "40003" => judgement.undecided(),
        _ => judgement,
    }
}

/// What a server says only before it takes work.
fn before_work(code: &str) -> Option<Kind> {
    Some(match code {
        // too_many_connections, configuration_limit_exceeded
        "53300" | "53400" => Kind::Overloaded,
        // cannot_connect_now: starting, stopping or recovering
        "57P03" => Kind::Unreachable,
        // invalid_authorization_specification, invalid_password, invalid_catalog_name
        "28000" | "28P01" => Kind::Denied,
        "3D000" => Kind::Broken,
        _ => return None,
    })
}

fn answered(code: &str) -> Kind {
    match code {
        "23505" => Kind::Duplicate,
        "40001" | "40P01" | "55P03" | "55006" => Kind::Contended,
        "40002" => Kind::Constraint,
        "25006" => Kind::ReadOnly,
        "42501" => Kind::Denied,
        "53100" => Kind::Full,
        "57014" => Kind::Interrupted,
        _ => match code.get(..2) {
            Some("08" | "57" | "58") | None => Kind::Lost,
            Some("22") => Kind::Value,
            Some("23") => Kind::Constraint,
            Some("25") => Kind::Misused,
            Some("28") => Kind::Denied,
            Some("40") => Kind::Contended,
            Some("53") => Kind::Overloaded,
            _ => Kind::Broken,
        },
    }
}
