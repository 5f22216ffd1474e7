//! What an error of sqlx's says, whatever the database.

use std::io;

use super::{Judgement, Phase, StoreErrorKind as Kind};

/// Judges an error of sqlx's that struck in `phase`.
///
/// What is not known for certain is taken for the worse: an error that says nothing about its
/// cause is a lost connection.
#[must_use]
pub fn of_sqlx(error: &sqlx::Error, phase: Phase) -> Judgement {
    use sqlx::Error;
    let kind = match error {
        Error::Database(error) => return of_database(&**error, phase),
        // The connection is only now being opened, in whatever phase a pool's caller thinks he is.
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => Kind::Unreachable,
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => match phase {
            Phase::Connect => Kind::Unreachable,
            _ => Kind::Lost,
        },
        Error::PoolTimedOut => Kind::Overloaded,
        Error::RowNotFound => Kind::NotFound,
        Error::Encode(_) | Error::InvalidArgument(_) => Kind::Value,
        Error::PoolClosed | Error::InvalidSavePointStatement => Kind::Misused,
        Error::Configuration(_) | Error::BeginFailed | Error::TypeNotFound { .. } => Kind::Broken,
        // The statement was done, and its answer cannot be read.
        Error::ColumnDecode { .. }
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::ColumnNotFound(_)
        | Error::Decode(_) => {
            let mut judgement = Judgement::new(Kind::Broken, phase);
            if phase.when_lost() == buttress_core::Verdict::unknown() {
                judgement.verdict = buttress_core::Verdict::unknown();
            }
            return judgement;
        }
        _ => Kind::Lost,
    };
    Judgement::new(kind, phase)
}

fn of_database(error: &dyn sqlx::error::DatabaseError, phase: Phase) -> Judgement {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return super::postgres::judge(error, phase);
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return super::mysql::judge(error, phase);
    }
    #[cfg(feature = "sqlite")]
    if let Some(error) = error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        return super::sqlite::judge(error, phase);
    }
    // A database of which nothing is known.
    let _ = error;
    Judgement::new(Kind::Lost, phase)
}
