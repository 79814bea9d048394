//! What can be wrong with a file, or go wrong.

use std::{error::Error, fmt, io};

use rusqlite::ErrorCode;

/// Why a file cannot be used, or why a group is not kept. None of the texts has anything of what is stored in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open.
    Locked,
    /// It is something else than a store.
    NotAStore,
    /// It was written by a newer program, in a format of this number.
    Version(i64),
    /// It is a store that was damaged; where it shows.
    Damaged(Box<str>),
    /// The disk, or the file, is full.
    Full,
    /// The operating system refuses something.
    Io(Box<str>),
    /// A hub asks for what cannot be: a number that was given out already.
    Order,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("another process has it open"),
            Self::NotAStore => f.write_str("it is not a file of this program's"),
            Self::Version(version) => {
                write!(f, "its format is version {version}; this program knows version ")?;
                write!(f, "{}", crate::file::VERSION)
            }
            Self::Damaged(at) => write!(f, "it is damaged: {at}"),
            Self::Full => f.write_str("the disk is full"),
            Self::Io(what) => f.write_str(what),
            Self::Order => f.write_str("a message's number was given out before"),
        }
    }
}

impl Error for StoreError {}

impl StoreError {
    pub(crate) fn damaged(at: impl Into<Box<str>>) -> Self {
        Self::Damaged(at.into())
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&error.kind()) { Self::Full } else { Self::Io(error.to_string().into()) }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType,
        };

        if let FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) =
            &error
        {
            return Self::damaged("a row has another shape");
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::NotADatabase) => Self::NotAStore,
            Some(ErrorCode::DatabaseCorrupt) => Self::damaged("its pages do not fit together"),
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Io(error.to_string().into()),
        }
    }
}
