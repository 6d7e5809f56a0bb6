//! Seals: eight bytes of a hash over the rest of a row, so that a bit that flipped on the disk is found when the row is read.
//! Contents have none: their hash stands in the header that names them.

use rusqlite::{
    Connection,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};

use crate::log::sha256;

/// Bytes of a seal. It guards against decay, not against somebody: by chance one of 2^64 damaged rows passes.
const SEAL_BYTES: usize = 8;

/// `seal_of(...)` over a table's name and the values of all columns but `seal`, in the table's order.
macro_rules! seal {
    ($table:literal: $($column:literal),+) => {
        concat!("seal_of('", $table, "'", $(", ", $table, ".", $column),+, ")")
    };
}

/// What the seal of a row of `meta` must be.
pub(super) const META: &str = seal!("meta": "key", "value");
/// What the seal of a row of `authors` must be.
pub(super) const AUTHORS: &str = seal!("authors": "number", "id", "name", "hardware", "arch", "hash", "signature", "account", "known_since");
/// What the seal of a row of `entries` must be.
pub(super) const ENTRIES: &str = seal!("entries": "author", "seq", "hash", "header", "signature", "time_ms",
    "received_ms", "verdict", "session", "mode", "coherence_ppm", "weight_ppm", "delta_uatp");
/// What the seal of a row of `submissions` must be.
pub(super) const SUBMISSIONS: &str = seal!("submissions": "number", "key", "seq", "verdict", "coherence_ppm",
    "delta_uatp", "balance_uatp", "trust_ppm");
/// What the seal of a row of `peers` must be.
pub(super) const PEERS: &str = seal!("peers": "id", "name", "addresses", "seen_ms");

/// Every sealed table.
pub(super) const TABLES: [(&str, &str); 5] = [
    ("meta", META),
    ("authors", AUTHORS),
    ("entries", ENTRIES),
    ("submissions", SUBMISSIONS),
    ("peers", PEERS),
];

/// Whether a row's seal fits, as a column: `whole("entries", ENTRIES)`.
pub(super) fn whole(table: &str, seal: &str) -> String {
    format!("{table}.seal IS {seal}")
}

/// Teaches a connection `seal_of`. Nothing in the schema may call it, so a file that was tampered with can't either.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("seal_of", -1, flags, |context| Ok(of_arguments(context)))
}

fn of_arguments(context: &Context<'_>) -> Vec<u8> {
    let mut layout = vec![];
    for index in 0..context.len() {
        put(&mut layout, context.get_raw(index));
    }
    of_layout(&layout)
}

fn of_layout(layout: &[u8]) -> Vec<u8> {
    sha256(&[b"cogmesh row v1\0", layout]).iter().copied().take(SEAL_BYTES).collect()
}

/// Kind, length, bytes: no two rows have the same layout. The kind matters: a flipped bit turns a number into a text of it.
fn put(layout: &mut Vec<u8>, value: ValueRef<'_>) {
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => (1, &number.to_le_bytes()),
        ValueRef::Real(number) => (2, &number.to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    layout.push(kind);
    layout.extend((bytes.len() as u64).to_le_bytes());
    layout.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(connection: &Connection, arguments: &str) -> Vec<u8> {
        connection.query_row(&format!("SELECT seal_of({arguments})"), [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn no_two_rows_have_the_same_layout() {
        let connection = Connection::open_in_memory().unwrap();
        register(&connection).unwrap();
        let rows =
            ["'t', 1, 2", "'t', 2, 1", "'t', '1', 2", "'t', x'31', 2", "'t', 12", "'t', '12'", "'t1', 2"];
        let rows =
            rows.into_iter().chain(["'t', 1, 2, NULL", "'t', NULL, 2", "'t', 1.0, 2", "'t', '', '12'"]);
        let mut seals: Vec<Vec<u8>> = rows.map(|row| seal(&connection, row)).collect();
        let number = seals.len();
        assert!(seals.iter().all(|seal| seal.len() == SEAL_BYTES));
        seals.sort();
        seals.dedup();
        assert_eq!(seals.len(), number);
    }
}
