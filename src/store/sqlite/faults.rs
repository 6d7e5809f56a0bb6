//! What goes wrong in the database, and what the node is told of it.

use std::{fmt, path::Path};

use rusqlite::{Error, ErrorCode};

use super::super::{DatabaseFault, StoreError};

/// Why something could not be read or written; [`Fault::about`] adds the file.
#[derive(Debug)]
pub(super) enum Fault {
    /// The library says so.
    Database(Error),
    /// A value is none that we write.
    Damaged(String),
    /// All is said already.
    Refused(StoreError),
}

impl Fault {
    /// Whether the disk could not be written or read, and nobody knows what of the last write is there.
    pub(super) fn is_of_the_disk(&self) -> bool {
        match self {
            Self::Database(error) => error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure),
            Self::Damaged(_) | Self::Refused(_) => false,
        }
    }

    /// Whether there was no room; what had been committed before stands.
    pub(super) fn is_of_a_full_disk(&self) -> bool {
        match self {
            Self::Database(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Damaged(_) | Self::Refused(_) => false,
        }
    }

    /// What the node is told: whether the disk failed, or the file is none of ours, or it was ours and is damaged.
    pub(super) fn about(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Refused(error) => error,
            Self::Damaged(what) => StoreError::Damaged { path, what },
            Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                StoreError::Foreign { path }
            }
            Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                StoreError::Full { path }
            }
            Self::Database(error) if is_damage(&error) => {
                StoreError::Damaged { path, what: error.to_string() }
            }
            Self::Database(error) => StoreError::Sqlite { path, source: DatabaseFault(Box::new(error)) },
        }
    }
}

impl Fault {
    /// Whether what is stored is at fault, so that a repair may help.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Database(error) => is_damage(error),
            Self::Refused(_) => false,
        }
    }
}

impl Fault {
    /// The same, said of a repair: where that fails because rows contradict each other, it is the store that is damaged.
    pub(super) fn in_repair(self) -> Self {
        match self {
            Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Self::Damaged(error.to_string())
            }
            Self::Database(_) | Self::Damaged(_) | Self::Refused(_) => self,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Damaged(what) => what.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// Pages that contradict each other, and values of another type or length than we write: the library tells the first
/// when it finds them, the second only when they are asked for.
pub(super) fn is_damage(error: &Error) -> bool {
    let is_of_words = |message: &String| message.contains("fts5") || message.contains("vtable constructor");
    error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
        || matches!(error, Error::SqliteFailure(_, Some(message)) if is_of_words(message))
        || matches!(
            error,
            Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..)
                | Error::Utf8Error(..)
                // We ask for one row where one must be.
                | Error::QueryReturnedNoRows
                // A statement of ours that means nothing: the tables are not ours any more.
                | Error::SqlInputError { .. }
        )
}
