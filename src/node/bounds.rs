//! Bounds: how much memory a node takes at worst, whatever others do, from the constants that bound it.
//! ARCHITECTURE.md shows the table; a test compares the two.

use super::{EVENTS_MAX, FOUND_MAX, throughput};
use crate::{
    net::bounds,
    protocol::{
        address_book::RECORDS_MAX, arrivals, authors::AUTHORS_MAX, dialling::PLACES_MAX, guard::NODES_MAX,
    },
    store::writer::WAITING_BYTES_MAX,
};

/// A row of a table in memory: a key of 32 bytes, what stands beside it, and its share of the tree.
const ROW_BYTES: usize = 128;
/// Tables that a link has of authors: who holds how much, what is to be asked for, who is silent, whom it follows.
const TABLES_OF_A_LINK: usize = 4;
/// An author's book (`authors.rs`).
const AUTHOR_BYTES: usize = 3 << 10;
/// A place that may be dialled, or a node record: names, addresses, signature.
const PLACE_BYTES: usize = 1 << 10;
/// An event with its text.
const EVENT_BYTES: usize = 512;
/// A node that has met nobody: program, store and its caches. Measured: 25 MiB in a debug build, 17 in a release build.
const ALONE_BYTES: usize = 32 << 20;

/// A throw-away node of a measurement that has met nobody: its store's caches and its tasks; the program is there already.
const ARENA_BYTES: usize = 16 << 20;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What.
    pub what: &'static str,
    /// Bytes of each.
    pub each_bytes: usize,
    /// How many there may be.
    pub many: usize,
}

impl Bound {
    const fn new(what: &'static str, each_bytes: usize, many: usize) -> Self {
        Self { what, each_bytes, many }
    }

    /// Of all, in MiB, rounded up.
    #[must_use]
    pub const fn mib(&self) -> usize {
        self.each_bytes.saturating_mul(self.many).div_ceil(1 << 20)
    }
}

/// What a node with so many peers takes at worst.
#[must_use]
pub fn worst_case(peers_max: usize) -> [Bound; 12] {
    let heard = bounds::HEARD_BYTES + bounds::MDNS_BYTES;
    let [alone, peers, strangers, incoming, budgets, inbox, records, authors, tables, events] =
        of_a_node(ALONE_BYTES, peers_max, bounds::STRANGERS_MAX);
    let arena = of_a_node(ARENA_BYTES, throughput::LINKS_MAX, throughput::STRANGERS_MAX);
    let arena = arena.iter().map(|bound| bound.each_bytes.saturating_mul(bound.many)).sum();
    [
        alone,
        peers,
        strangers,
        incoming,
        budgets,
        inbox,
        records,
        authors,
        tables,
        Bound::new("mDNS: what is heard, and a flooded daemon (measured)", heard, 1),
        events,
        Bound::new("an arena of a measurement: all that but mDNS, for two peers", arena, 1),
    ]
}

/// What a node takes at worst that does not announce itself.
fn of_a_node(alone_bytes: usize, peers_max: usize, strangers_max: usize) -> [Bound; 10] {
    let link = bounds::PEER_BYTES + TABLES_OF_A_LINK * AUTHORS_MAX * ROW_BYTES;
    let tables =
        (NODES_MAX + arrivals::PEERS_MAX) * ROW_BYTES + (PLACES_MAX + RECORDS_MAX + FOUND_MAX) * PLACE_BYTES;
    [
        Bound::new("a node that has met nobody (measured)", alone_bytes, 1),
        Bound::new("admitted peers", link, peers_max),
        Bound::new("connections that are not admitted yet", bounds::STRANGER_BYTES, strangers_max),
        Bound::new("packets of connections that were not begun", bounds::INCOMING_BYTES, 1),
        Bound::new("budgets of addresses", bounds::BUDGET_BYTES, 1),
        Bound::new("heard and verified: the inbox", bounds::inbox_bytes(), 1),
        Bound::new("records for the disk: ours, others'", WAITING_BYTES_MAX, 2),
        Bound::new("authors", AUTHOR_BYTES, AUTHORS_MAX),
        Bound::new("who is refused, who brings authors, places and records", tables, 1),
        Bound::new("events for a listener", EVENT_BYTES, EVENTS_MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::PEERS_MAX_DEFAULT;

    #[test]
    fn the_worst_case_is_what_the_architecture_says() {
        let architecture = include_str!("../../ARCHITECTURE.md");
        let bounds = worst_case(PEERS_MAX_DEFAULT.into());
        let rows: Vec<String> = bounds
            .iter()
            .map(|bound| {
                let each = bound.each_bytes.div_ceil(1 << 10);
                format!("| {} | {each} KiB | {} | {} MiB |\n", bound.what, bound.many, bound.mib())
            })
            .collect();
        let sum: usize = bounds.iter().map(Bound::mib).sum();
        let table = format!("{}| **together** | | | **{sum} MiB** |\n", rows.concat());
        assert!(architecture.contains(&table), "ARCHITECTURE.md should have this table:\n{table}");
    }
}
