//! The store on SQLite: write-ahead log, every commit synced, one connection that writes and a few that read.

mod reader;
mod rows;
mod schema;
mod writing;

use std::{
    fs::File,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags};

use super::{DatabaseFault, Rates, Store, StoreError, ThoughtQuery, ThoughtRow};
use crate::{
    ledger::{
        policy::Policy,
        types::{Millis, Seq},
    },
    log::{
        FederationId, NodeId,
        books::{Books, Record, StoredEntry},
    },
};

/// Read connections that are kept open for the next reader; more are opened when more read at once.
const READERS_KEPT: usize = 4;

/// A node's store in a file of its own.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    policy: Policy,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl SqliteStore {
    /// Opens the store in that file, or makes it, with mode 0600.
    ///
    /// # Errors
    /// Where the file is no store, is damaged, was written by a newer version, or belongs to another node or federation.
    pub fn open(
        path: &Path,
        federation: FederationId,
        own: NodeId,
        policy: Policy,
    ) -> Result<Self, StoreError> {
        make_private(path).map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source,
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(path, flags)?;
            schema::configure(&connection)?;
            Ok(connection)
        };
        let mut writer = open().map_err(|error| schema::not_a_store(path, error))?;
        schema::prepare(path, &mut writer, federation, own)?;
        Ok(Self {
            path: path.to_owned(),
            policy,
            writer: Mutex::new(writer),
            readers: Mutex::default(),
        })
    }

    /// Runs a read on a connection of its own: a short one, because a long one keeps the write-ahead log from shrinking.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, ReadFault>) -> Result<T, StoreError> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => self.open_reader().map_err(|error| self.failed(error))?,
        };
        let result = read(&connection).map_err(|fault| match fault {
            ReadFault::Sqlite(error) => self.failed(error),
            ReadFault::Damaged(what) => StoreError::Damaged {
                path: self.path.clone(),
                what,
            },
        });
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_KEPT {
            readers.push(connection);
        }
        result
    }

    fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        schema::configure_reader(&connection)?;
        Ok(connection)
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::Sqlite {
            path: self.path.clone(),
            source: DatabaseFault(Box::new(error)),
        }
    }
}

/// Why a read failed.
enum ReadFault {
    /// The library says so.
    Sqlite(rusqlite::Error),
    /// A value is none that we write.
    Damaged(String),
}

impl From<rusqlite::Error> for ReadFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Store for SqliteStore {
    fn load(&self) -> Result<Books, StoreError> {
        self.read(|connection| reader::books(connection, &self.policy))
    }

    fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writing::commit(&mut writer, records).map_err(|error| self.failed(error))
    }

    fn entries(&self, author: NodeId, from: Seq, bytes_max: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.read(|connection| reader::entries(connection, author, from, bytes_max))
    }

    fn thoughts(&self, query: &ThoughtQuery) -> Result<Vec<ThoughtRow>, StoreError> {
        self.read(|connection| reader::thoughts(connection, query))
    }

    fn rates(&self, since: Millis) -> Result<Rates, StoreError> {
        self.read(|connection| reader::rates(connection, since))
    }
}

/// Makes the file with mode 0600 before SQLite sees it: the files beside it (`-wal`, `-shm`) get the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}
