//! The codes of gRPC, and the HTTP statuses that stand for them.

use http::StatusCode;

/// The codes of gRPC (`google/rpc/code.proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RpcCode {
    /// No error.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Nothing is known of it.
    Unknown = 2,
    /// The request is wrong, whatever the state of the system.
    InvalidArgument = 3,
    /// The time was over; it may have been done.
    DeadlineExceeded = 4,
    /// It is not there.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// The caller is known, and may not.
    PermissionDenied = 7,
    /// A quota is used up.
    ResourceExhausted = 8,
    /// The system is not in the state that it takes; do not repeat before it is.
    FailedPrecondition = 9,
    /// Another one came between; begin again from reading.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// There is no such operation.
    Unimplemented = 12,
    /// Something is broken.
    Internal = 13,
    /// For now it cannot; the call may be repeated.
    Unavailable = 14,
    /// Data is lost for good.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl RpcCode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The number, as it stands on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The code of this number; one that is not known is `Unknown`, as gRPC's clients take it.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        let known = Self::ALL.into_iter().find(|code| code.number() == number);
        known.unwrap_or(Self::Unknown)
    }

    /// The name, as `code.proto` spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status that stands for it (`code.proto`): 499 is nginx's "client closed request".
    #[must_use]
    pub fn http_status(self) -> StatusCode {
        StatusCode::from_u16(self.row().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Name and HTTP status, as in `google/rpc/code.proto`.
    const fn row(self) -> (&'static str, u16) {
        match self {
            Self::Ok => ("OK", 200),
            Self::Cancelled => ("CANCELLED", 499),
            Self::Unknown => ("UNKNOWN", 500),
            Self::InvalidArgument => ("INVALID_ARGUMENT", 400),
            Self::DeadlineExceeded => ("DEADLINE_EXCEEDED", 504),
            Self::NotFound => ("NOT_FOUND", 404),
            Self::AlreadyExists => ("ALREADY_EXISTS", 409),
            Self::PermissionDenied => ("PERMISSION_DENIED", 403),
            Self::ResourceExhausted => ("RESOURCE_EXHAUSTED", 429),
            Self::FailedPrecondition => ("FAILED_PRECONDITION", 400),
            Self::Aborted => ("ABORTED", 409),
            Self::OutOfRange => ("OUT_OF_RANGE", 400),
            Self::Unimplemented => ("UNIMPLEMENTED", 501),
            Self::Internal => ("INTERNAL", 500),
            Self::Unavailable => ("UNAVAILABLE", 503),
            Self::DataLoss => ("DATA_LOSS", 500),
            Self::Unauthenticated => ("UNAUTHENTICATED", 401),
        }
    }

    /// The code that an HTTP status stands for, where no more is known. Several codes share a
    /// status; the one is taken that promises least: a 409 is `Aborted`, a 400 `InvalidArgument`,
    /// a 500 `Internal`. [`Problem::with_rpc_code`](crate::Problem::with_rpc_code) says otherwise.
    #[must_use]
    pub fn from_status(status: StatusCode) -> Self {
        match status.as_u16() {
            200..300 => Self::Ok,
            400 | 413 | 415 | 422 => Self::InvalidArgument,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 | 410 => Self::NotFound,
            405 | 501 => Self::Unimplemented,
            408 | 504 => Self::DeadlineExceeded,
            409 => Self::Aborted,
            416 => Self::OutOfRange,
            429 => Self::ResourceExhausted,
            499 => Self::Cancelled,
            400..500 => Self::FailedPrecondition,
            502 | 503 => Self::Unavailable,
            500..600 => Self::Internal,
            _ => Self::Unknown,
        }
    }
}
