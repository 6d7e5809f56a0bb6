//! Seals: eight bytes of a hash over the rest of a row, so that a bit that flipped on the disk is found when the row is read.
//! Contents have none: their hash stands in the header that names them.

use rusqlite::{
    Connection,
    functions::{Context, FunctionFlags},
    types::{Value, ValueRef},
};

use crate::log::sha256;

/// Bytes of a seal. It guards against decay, not against somebody: by chance one of 2^64 damaged rows passes.
const SEAL_BYTES: usize = 8;

/// Room for the layout of a row of entries.
const LAYOUT_BYTES: usize = 1_024;

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
/// What the seal of a row of `faults` must be.
pub(super) const FAULTS: &str =
    seal!("faults": "id", "cut", "kind", "first", "second", "found_ms", "cleared");

/// Every table that the second schema sealed.
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
    // Most rows are shorter: the buffer seldom grows.
    let mut layout = Vec::with_capacity(LAYOUT_BYTES);
    for index in 0..context.len() {
        put(&mut layout, context.get_raw(index));
    }
    of_layout(&layout)
}

/// The seal of a row of that table with these values.
pub(super) fn of(table: &str, values: &[Value]) -> Vec<u8> {
    let mut layout = vec![];
    put(&mut layout, ValueRef::Text(table.as_bytes()));
    values.iter().for_each(|value| put(&mut layout, ValueRef::from(value)));
    of_layout(&layout)
}

/// Whether the values are those that were sealed, but for at most one bit, in one of the `suspects` (which is put right) or in the
/// seal. A seal that fits again says which bit it was; so is healed what stands nowhere else.
pub(super) fn unflip(table: &str, values: &mut [Value], seal: &Value, suspects: &[usize]) -> bool {
    let Value::Blob(seal) = seal else { return false };
    let found = of(table, values);
    let differing: u32 = found.iter().zip(seal).map(|(one, other)| (one ^ other).count_ones()).sum();
    if found.len() == seal.len() && differing <= 1 {
        return true;
    }
    for suspect in suspects {
        for bit in 0..values.get(*suspect).map_or(0, bits) {
            flip(values, *suspect, bit);
            if of(table, values) == *seal {
                return true;
            }
            flip(values, *suspect, bit);
        }
    }
    false
}

/// How many bits of a value may have flipped. Of a text none: it would have to be a text again.
const fn bits(value: &Value) -> usize {
    match value {
        Value::Integer(_) => 64,
        Value::Blob(bytes) => bytes.len().saturating_mul(8),
        Value::Null | Value::Real(_) | Value::Text(_) => 0,
    }
}

fn flip(values: &mut [Value], index: usize, bit: usize) {
    match values.get_mut(index) {
        Some(Value::Integer(number)) => *number ^= 1 << (bit % 64),
        Some(Value::Blob(bytes)) => {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Some(Value::Null | Value::Real(_) | Value::Text(_)) | None => {}
    }
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

    #[test]
    fn a_seal_says_which_bit_of_a_suspect_flipped_and_that_no_other_did() {
        let row = [Value::Integer(7), Value::Blob(vec![1, 2, 3]), Value::Text("thor".to_owned())];
        let seal = of("t", &row);
        for bit in 0..64 {
            let mut flipped = row.clone();
            flip(&mut flipped, 0, bit);
            assert!(!unflip("t", &mut flipped.clone(), &Value::Blob(seal.clone()), &[1, 2]), "no suspect");
            assert!(unflip("t", &mut flipped, &Value::Blob(seal.clone()), &[1, 0]));
            assert_eq!(flipped, row);

            let mut other_seal = seal.clone();
            other_seal[bit / 8] ^= 1 << (bit % 8);
            assert!(unflip("t", &mut flipped, &Value::Blob(other_seal), &[0, 1]), "the seal's own bit");
            assert_eq!(flipped, row);
        }
        let mut two = row.clone();
        flip(&mut two, 0, 1);
        flip(&mut two, 1, 1);
        assert!(!unflip("t", &mut two, &Value::Blob(seal.clone()), &[0, 1]));
        assert!(
            !unflip("other", &mut row.clone(), &Value::Blob(seal), &[0, 1]),
            "each table has its own seals"
        );
    }
}
