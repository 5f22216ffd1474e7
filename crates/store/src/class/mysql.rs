//! What an error number of MySQL's or MariaDB's says.

use sqlx::mysql::MySqlDatabaseError;

use super::{Judgement, Phase, StoreErrorKind as Kind};

/// Judges an answer of the server's, by its number: MySQL's SQLSTATEs say less.
pub(super) fn judge(error: &MySqlDatabaseError, phase: Phase) -> Judgement {
    let number = error.number();
    let kind = kind(number, error.code(), phase);
    let judgement = Judgement::new(kind, phase).with_code(number.to_string());
    match number {
        // ER_ERROR_DURING_COMMIT
        1180 => judgement.undecided(),
        // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: the caller's own wish.
        1792 => judgement.for_good(),
        _ => judgement,
    }
}

fn kind(number: u16, state: Option<&str>, phase: Phase) -> Kind {
    match number {
        // ER_CON_COUNT, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED, out of memory,
        // out of sort memory, ER_TOO_MANY_CONCURRENT_TRXS
        1040 | 1203 | 1226 | 1037 | 1038 | 1041 | 1637 => Kind::Overloaded,
        // ER_HOST_IS_BLOCKED
        1129 => Kind::Unreachable,
        // ER_SERVER_SHUTDOWN, ER_ABORTING_CONNECTION and its kin, network errors,
        // ER_CONNECTION_KILLED (MariaDB), ER_CLIENT_INTERACTION_TIMEOUT (MySQL)
        1053 | 1152 | 1154..=1161 | 1184 | 1927 | 4031 => match phase {
            Phase::Connect => Kind::Unreachable,
            _ => Kind::Lost,
        },
        1180 => Kind::Lost,
        // disk full, record file full, table full
        1021 | 1114 | 1135 => Kind::Full,
        // ER_CHECKREAD, ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_LOCK_NOWAIT (3572 in MySQL)
        1020 | 1205 | 1213 | 1614 | 3572 => Kind::Contended,
        // --read-only, ER_READ_ONLY_MODE, and a transaction that was begun so
        1290 | 1792 | 1836 => Kind::ReadOnly,
        // ER_QUERY_INTERRUPTED, statement time limits of MySQL and MariaDB
        1317 | 3024 | 1969 => Kind::Interrupted,
        1022 | 1062 | 1169 | 1586 => Kind::Duplicate,
        // NOT NULL, foreign keys, CHECK of MySQL and of MariaDB
        1048 | 1216 | 1217 | 1364 | 1451 | 1452 | 3819 => Kind::Constraint,
        4025 if state == Some("23000") => Kind::Constraint,
        // out of range, truncated, wrong value, too long, division by zero, packet too large
        1153 | 1264 | 1265 | 1292 | 1365 | 1366 | 1406 => Kind::Value,
        // databases, logins, tables, columns, routines, privileges
        1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1370 | 1698 => Kind::Denied,
        _ => match state.and_then(|state| state.get(..2)) {
            Some("08") => Kind::Lost,
            Some("22") => Kind::Value,
            Some("23") => Kind::Constraint,
            Some("28") => Kind::Denied,
            Some("40") => Kind::Contended,
            _ => Kind::Broken,
        },
    }
}
