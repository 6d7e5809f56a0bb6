//! Mirror: the frames as serde sees them, field by field in the order of their bytes. The log's own types have no serde.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    WireFault,
    bounded::{Blob, Bounded},
};
use crate::{
    ledger::types::{Level, MicroAtp, Millis, Seq},
    log::{
        Alive, Architecture, Claim, Entry, FederationId, Hardware, Head, NodeId, NodeRecord, Nonce,
        Revocation, SEGMENT_ENTRIES_MAX, Signature,
        entry::{HEADER_BYTES_MAX, Hash},
    },
    protocol::{
        frame::{
            DRY_CONTENT_BYTES_MAX, FaultReport, HEADS_PER_FRAME_MAX, HeadReport, Hello, Instance,
            POLICY_BYTES_MAX, RECORDS_PER_FRAME_MAX, REVOCATIONS_PER_FRAME_MAX, SOFTWARE_BYTES_MAX,
            SignedRecord,
        },
        refusal::ABOUT_BYTES_MAX,
    },
};

/// A peer record: key, name, time, and eight addresses of at most 19 bytes.
pub(super) const RECORD_BYTES_MAX: usize = 32 + 33 + 8 + 1 + 8 * 19;
/// A content may fill a frame; what a policy allows is checked with the segment.
const CONTENT_BYTES_MAX: usize = super::FRAME_BYTES_MAX;

/// serde has no arrays of 64 bytes.
pub(super) type Halves = [[u8; 32]; 2];

pub(super) fn halves(signature: &Signature) -> Halves {
    let mut halves = [[0; 32]; 2];
    halves.as_flattened_mut().copy_from_slice(&signature.0);
    halves
}

pub(super) fn whole(halves: Halves) -> Signature {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(halves.as_flattened());
    Signature(bytes)
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireControl<'a> {
    #[serde(borrow)]
    Hello(WireHello<'a>),
    #[serde(borrow)]
    Admitted(WireHello<'a>),
    Refused {
        code: u16,
        #[serde(borrow)]
        about: Blob<'a, ABOUT_BYTES_MAX>,
    },
    Ping {
        number: u64,
        clock: u64,
    },
    Pong {
        number: u64,
        clock: u64,
    },
    Rival {
        instance: u64,
    },
    Alive(WireAlive),
    Clone(WireAlive),
    #[serde(borrow)]
    Records(Bounded<WireRecord<'a>, RECORDS_PER_FRAME_MAX>),
    About {
        #[serde(borrow)]
        software: Blob<'a, SOFTWARE_BYTES_MAX>,
    },
    Revocations(Bounded<WireRevocation, REVOCATIONS_PER_FRAME_MAX>),
}

impl WireControl<'_> {
    pub(super) const KINDS: u32 = 11;
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireAlive {
    instance: u64,
    other: u64,
    signature: Halves,
}

impl WireAlive {
    pub(super) fn new(alive: &Alive) -> Self {
        Self { instance: alive.instance, other: alive.other, signature: halves(&alive.signature) }
    }

    pub(super) fn read(self) -> Alive {
        Alive { instance: self.instance, other: self.other, signature: whole(self.signature) }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireRevocation {
    node: [u8; 32],
    time: u64,
    signature: Halves,
}

impl WireRevocation {
    pub(super) fn new(revocation: &Revocation) -> Self {
        Self {
            node: *revocation.node.as_bytes(),
            time: revocation.time.0,
            signature: halves(&revocation.signature),
        }
    }

    pub(super) fn read(self) -> Result<Revocation, WireFault> {
        let node = NodeId::from_key(self.node)?;
        Ok(Revocation { node, time: Millis(self.time), signature: whole(self.signature) })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireRecord<'a> {
    #[serde(borrow)]
    record: Blob<'a, RECORD_BYTES_MAX>,
    signature: Halves,
}

impl<'a> WireRecord<'a> {
    /// `record` is the record's bytes, which go as they were signed.
    pub(super) fn new(signature: &Signature, record: &'a [u8]) -> Result<Self, WireFault> {
        Ok(Self { record: Blob::new(record)?, signature: halves(signature) })
    }

    pub(super) fn read(self) -> Result<SignedRecord, WireFault> {
        let record = NodeRecord::parse(self.record.0).map_err(|_| WireFault::Malformed("no node record"))?;
        Ok(SignedRecord { record, signature: whole(self.signature) })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireHello<'a> {
    version: u16,
    federation: [u8; 32],
    #[serde(borrow)]
    policy: Blob<'a, POLICY_BYTES_MAX>,
    #[serde(borrow)]
    record: Blob<'a, RECORD_BYTES_MAX>,
    record_signature: Halves,
    hardware: u8,
    level: u8,
    #[serde(borrow)]
    arch: Blob<'a, { Architecture::BYTES_MAX }>,
    claim_signature: Halves,
    instance: u64,
    nonce: u64,
    clock: u64,
}

impl<'a> WireHello<'a> {
    /// `record` is the record's bytes, which go as they were signed.
    pub(super) fn new(hello: &'a Hello, record: &'a [u8]) -> Result<Self, WireFault> {
        Ok(Self {
            version: hello.version,
            federation: hello.federation.0,
            policy: Blob::new(&hello.policy)?,
            record: Blob::new(record)?,
            record_signature: halves(&hello.record_signature),
            hardware: hello.claim.hardware.number(),
            level: hello.claim.level.number(),
            arch: Blob::new(hello.claim.arch.as_str().as_bytes())?,
            claim_signature: halves(&hello.claim_signature),
            instance: hello.instance.0,
            nonce: hello.nonce.0,
            clock: hello.clock.0,
        })
    }

    pub(super) fn read(self) -> Result<Hello, WireFault> {
        let claim = Claim {
            hardware: Hardware::from_number(self.hardware).ok_or(WireFault::Malformed("no such hardware"))?,
            level: Level::try_from(self.level).map_err(|_| WireFault::Malformed("no such level"))?,
            arch: Architecture::try_from(self.arch.0)
                .map_err(|_| WireFault::Malformed("no such architecture"))?,
        };
        Ok(Hello {
            version: self.version,
            federation: FederationId(self.federation),
            policy: self.policy.0.to_vec(),
            record: NodeRecord::parse(self.record.0).map_err(|_| WireFault::Malformed("no node record"))?,
            record_signature: whole(self.record_signature),
            claim,
            claim_signature: whole(self.claim_signature),
            instance: Instance(self.instance),
            nonce: Nonce(self.nonce),
            clock: Millis(self.clock),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireBalance {
    Heads(Bounded<WireReport, HEADS_PER_FRAME_MAX>),
    Want { author: [u8; 32], from: u64 },
    Mend { author: [u8; 32], first: u64, last: u64 },
    Faults(Bounded<WireFaultReport, HEADS_PER_FRAME_MAX>),
    Prove { author: [u8; 32] },
    Follow { author: [u8; 32], on: bool },
}

impl WireBalance {
    pub(super) const KINDS: u32 = 6;
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireFaultReport {
    author: [u8; 32],
    cut: u64,
    held: u64,
    hash: [u8; 32],
    balance: i64,
    digest: [u8; 32],
}

impl WireFaultReport {
    pub(super) fn new(report: &FaultReport) -> Self {
        let FaultReport { author, cut, held, hash, balance, digest } = report;
        Self {
            author: *author.as_bytes(),
            cut: cut.0,
            held: *held,
            hash: hash.0,
            balance: balance.0,
            digest: *digest,
        }
    }

    pub(super) fn read(self) -> Result<FaultReport, WireFault> {
        if self.held > self.cut {
            return Err(WireFault::Malformed("entries behind the end of a log"));
        }
        Ok(FaultReport {
            author: NodeId::from_key(self.author)?,
            cut: Seq(self.cut),
            held: self.held,
            hash: Hash(self.hash),
            balance: MicroAtp(self.balance),
            digest: self.digest,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireReport {
    author: [u8; 32],
    seq: u64,
    hash: [u8; 32],
    signature: Halves,
    balance: i64,
    digest: [u8; 32],
}

impl WireReport {
    pub(super) fn new(report: &HeadReport) -> Self {
        let HeadReport { head, balance, digest } = report;
        Self {
            author: *head.author.as_bytes(),
            seq: head.seq.0,
            hash: head.hash.0,
            signature: halves(&head.signature),
            balance: balance.0,
            digest: *digest,
        }
    }

    pub(super) fn read(self) -> Result<HeadReport, WireFault> {
        let head = Head {
            author: NodeId::from_key(self.author)?,
            seq: Seq(self.seq),
            hash: Hash(self.hash),
            signature: whole(self.signature),
        };
        Ok(HeadReport { head, balance: MicroAtp(self.balance), digest: self.digest })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireSegment<'a> {
    Segment {
        #[serde(borrow)]
        entries: Bounded<WireEntry<'a>, SEGMENT_ENTRIES_MAX>,
        signature: Halves,
    },
}

impl WireSegment<'_> {
    pub(super) const KINDS: u32 = 1;
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireEntry<'a> {
    #[serde(borrow)]
    header: Blob<'a, HEADER_BYTES_MAX>,
    #[serde(borrow)]
    content: Option<Blob<'a, CONTENT_BYTES_MAX>>,
}

impl<'a> WireEntry<'a> {
    pub(super) fn new(entry: &'a Entry) -> Result<Self, WireFault> {
        let content = entry.content().map(|content| Blob::new(content)).transpose()?;
        Ok(Self { header: Blob::new(entry.header_bytes())?, content })
    }

    pub(super) fn read(self, federation: &FederationId) -> Result<Entry, WireFault> {
        // Copied, so that an entry that is kept does not keep its whole frame.
        let content = self.content.map(|content| Bytes::copy_from_slice(content.0));
        Ok(Entry::parse(federation, Bytes::copy_from_slice(self.header.0), content)?)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireMeasure<'a> {
    Floor,
    FloorAt {
        port: u16,
        token: [u8; 16],
    },
    NoFloor,
    Dry {
        number: u64,
        #[serde(borrow)]
        header: Blob<'a, HEADER_BYTES_MAX>,
        #[serde(borrow)]
        content: Blob<'a, DRY_CONTENT_BYTES_MAX>,
        signature: Halves,
    },
    Weighed {
        number: u64,
        outcome: u8,
    },
    Arena {
        writer: [u8; 32],
        reader: [u8; 32],
        duration_ms: u32,
        synced: bool,
    },
    ArenaAt {
        node: [u8; 32],
        port: u16,
    },
    NoArena {
        why: u8,
    },
    Tally {
        thoughts: u64,
    },
    Tallied {
        thoughts: u64,
        cpu_us: u64,
    },
    Bulk {
        bytes: u32,
    },
    Taken {
        bytes: u32,
    },
}

impl WireMeasure<'_> {
    pub(super) const KINDS: u32 = 12;
}
