//! Who runs, and what each does for a message.

/// One that is measured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contestant {
    /// How it is called on the command line and in results.
    pub(crate) id: &'static str,
    /// How it is called in tables.
    pub(crate) name: &'static str,
    /// Its program.
    pub(crate) package: &'static str,
    /// What its program is told to be.
    pub(crate) variant: &'static str,
    pub(crate) profile: Profile,
    /// What it does for a message, in the order of [`DOES`]; `-`: it does not.
    pub(crate) does: [bool; 5],
}

/// How it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As the product, overflow checks among it.
    Release,
    /// As cargo builds by default, with optimisation across crates.
    Foreign,
}

impl Profile {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Foreign => "foreign",
        }
    }
}

/// What may be done for a message.
pub(crate) const DOES: [(&str, &str); 5] = [
    ("e", "encrypted on its way"),
    ("a", "both sides have proved their keys"),
    ("s", "the author's signature goes with it (of ours: with each burst of entries, over the hash of all)"),
    ("v", "checked against rules before it counts"),
    ("d", "stored on a disk on both sides, in full"),
];

const fn contestant(
    (id, name): (&'static str, &'static str),
    (package, variant): (&'static str, &'static str),
    profile: Profile,
    does: [bool; 5],
) -> Contestant {
    Contestant { id, name, package, variant, profile, does }
}

const NOTHING: [bool; 5] = [false; 5];
const MUTUAL: [bool; 5] = [true, true, false, false, false];
const SIGNED: [bool; 5] = [true, true, true, false, false];
const ALL: [bool; 5] = [true; 5];

/// Everybody, in the order of the table.
pub(crate) const CONTESTANTS: &[Contestant] = &[
    contestant(("cogmesh", "cogmesh"), ("cogmesh", "full"), Profile::Release, ALL),
    contestant(("cogmesh-normal", "cogmesh, `normal`"), ("cogmesh", "normal"), Profile::Release, ALL),
    contestant(("cogmesh-node", "cogmesh, whole node"), ("cogmesh", "admitted"), Profile::Release, ALL),
    contestant(("udp", "UDP"), ("udp", ""), Profile::Release, NOTHING),
    contestant(("tcp", "TCP"), ("tcp", ""), Profile::Release, NOTHING),
    contestant(("quinn", "quinn"), ("quinn", ""), Profile::Release, MUTUAL),
    contestant(("quinn-pq", "quinn, post-quantum"), ("quinn", "post-quantum"), Profile::Release, MUTUAL),
    contestant(("iroh", "iroh"), ("iroh", ""), Profile::Foreign, MUTUAL),
    contestant(("iroh-gossip", "iroh-gossip"), ("iroh-gossip", ""), Profile::Foreign, MUTUAL),
    contestant(("libp2p", "libp2p gossipsub"), ("libp2p", "signed"), Profile::Foreign, SIGNED),
    contestant(("zenoh-tcp", "zenoh TCP"), ("zenoh", "tcp"), Profile::Foreign, NOTHING),
    contestant(("zenoh-quic", "zenoh QUIC"), ("zenoh", "quic"), Profile::Foreign, MUTUAL),
    contestant(("nats", "NATS"), ("nats", ""), Profile::Foreign, NOTHING),
];

impl Contestant {
    /// What it does, as letters.
    pub(crate) fn does_letters(&self) -> String {
        let letter =
            |((letter, _), does): (&(&'static str, &str), &bool)| if *does { *letter } else { "–" };
        DOES.iter().zip(&self.does).map(letter).collect()
    }
}

/// The one that is called so.
pub(crate) fn named(id: &str) -> Option<&'static Contestant> {
    CONTESTANTS.iter().find(|contestant| contestant.id == id)
}
