//! What a result code of SQLite's says (<https://www.sqlite.org/rescode.html>).

use sqlx::{error::DatabaseError as _, sqlite::SqliteError};

use super::{Judgement, Phase, StoreErrorKind as Kind};

/// Judges a result code. The low byte is the primary code, the rest says more.
pub(super) fn judge(error: &SqliteError, phase: Phase) -> Judgement {
    let code = error.code().unwrap_or_default().into_owned();
    let number = code.parse::<u32>().unwrap_or_default();
    let kind = kind(number);
    let judgement = Judgement::new(kind, phase).with_code(code);
    match kind {
        // There is no other server behind the file that could take writes later.
        Kind::ReadOnly => judgement.for_good(),
        _ => judgement,
    }
}

fn kind(number: u32) -> Kind {
    match number {
        // SQLITE_CONSTRAINT_PRIMARYKEY, _ROWID, _UNIQUE
        1555 | 2067 | 2579 => return Kind::Duplicate,
        _ => {}
    }
    match number & 0xff {
        // BUSY, LOCKED, PROTOCOL (too much of a race for the WAL), SCHEMA (changed meanwhile)
        5 | 6 | 15 | 17 => Kind::Contended,
        7 => Kind::Overloaded,
        8 => Kind::ReadOnly,
        9 => Kind::Interrupted,
        // IOERR: what the disk holds now is not known.
        10 => Kind::Lost,
        13 => Kind::Full,
        14 => Kind::Unreachable,
        18 | 20 | 25 => Kind::Value,
        19 => Kind::Constraint,
        3 | 23 => Kind::Denied,
        21 => Kind::Misused,
        _ => Kind::Broken,
    }
}
