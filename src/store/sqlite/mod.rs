//! The store on SQLite: write-ahead log, every commit synced, one connection that writes and a few that read.

mod faults;
mod reader;
mod rows;
mod schema;
mod writing;

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags};

use self::faults::Fault;
use super::{Rates, Store, StoreError, ThoughtQuery, ThoughtRow};
use crate::{
    ledger::{
        economy::Session,
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
    // Before the writer, so that it closes last: a connection that only reads can't fold the write-ahead log back.
    readers: Mutex<Vec<Connection>>,
    writer: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the store in that file, or makes it, with mode 0600. A file that is refused stays as it was.
    ///
    /// # Errors
    /// Where the file is no store, is damaged, was written by a newer version, or belongs to another node or federation.
    pub fn open(
        path: &Path,
        federation: FederationId,
        own: NodeId,
        policy: Policy,
    ) -> Result<Self, StoreError> {
        let cannot = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        make_private(path).map_err(cannot)?;
        let writer = open_writer(path, federation, own).map_err(|fault| fault.about(path))?;
        keep_private(path).map_err(cannot)?;
        Ok(Self {
            path: path.to_owned(),
            policy,
            readers: Mutex::default(),
            writer: Mutex::new(writer),
        })
    }

    /// Runs a read on a connection of its own: a short one, because a long one keeps the write-ahead log from shrinking.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.try_read(read).map_err(|fault| fault.about(&self.path))
    }

    fn try_read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let result = read(&connection)?;
        // After a failure the connection is not kept: the next reader begins afresh.
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_KEPT {
            readers.push(connection);
        }
        Ok(result)
    }
}

/// The file is looked at before anything is set: to turn on the write-ahead log is to write to somebody's file.
fn open_writer(path: &Path, federation: FederationId, own: NodeId) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut writer = Connection::open_with_flags(path, flags)?;
    schema::configure_reader(&writer)?;
    let kind = schema::identify(path, &writer, federation, own)?;
    schema::configure(path, &writer)?;
    match kind {
        schema::Kind::Empty => schema::create(&mut writer, federation, own)?,
        schema::Kind::Ours => {}
    }
    Ok(writer)
}

fn open_reader(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    schema::configure_reader(&connection)?;
    Ok(connection)
}

impl Store for SqliteStore {
    fn load(&self) -> Result<Books, StoreError> {
        self.read(|connection| reader::books(connection, &self.policy))
    }

    fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writing::commit(&mut writer, records).map_err(|fault| fault.about(&self.path))
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

    fn sessions(&self) -> Result<BTreeMap<String, Session>, StoreError> {
        self.read(reader::sessions)
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

/// Takes from others what they may do with a store that was copied or restored with another mode.
fn keep_private(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::set_permissions(&file, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}
