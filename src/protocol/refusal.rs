//! Refusals: why a connection was not admitted or was ended, as data that crosses the wire and comes back as a sentence.
//! Source: protocol.md, Connections. The first twelve are the specification's; the others end connections that were
//! refused for their bytes or were simply not needed.

use std::fmt;

/// Longest `about` of a refusal, in bytes: it must fit into a QUIC close frame, which is one datagram.
pub const ABOUT_BYTES_MAX: usize = 256;

/// Whose doing a refusal is; it decides what is counted against whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The other side could have known better.
    Peer,
    /// The author of a log, whoever sent it.
    Author,
    /// This node: its disk, load, clock or settings.
    Ours,
    /// Nobody: it is how the protocol works.
    Nobody,
}

/// The reason code. Its number is the QUIC application close code and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// The peer belongs to another federation.
    WrongFederation,
    /// Same federation name, other rules.
    PolicyDiffers,
    /// The peer speaks another version of the protocol.
    Version,
    /// The peer's nonce does not carry the work that the policy asks for.
    ProofOfWork,
    /// A closed federation, and the peer is no member of it.
    NotAMember,
    /// The peer's membership was revoked.
    Revoked,
    /// The peer's certificate has expired.
    Expired,
    /// One key is live in two places.
    Clone,
    /// The peer signed two different entries with one seq.
    Forked,
    /// This node has as many peers as it takes.
    TooManyPeers,
    /// The peer sent what it could have seen to be wrong, and is refused for a while.
    BackingOff,
    /// The peer did not say who it is in time.
    HandshakeTimeout,
    /// A second link to a node that is already linked; the other one stays.
    Duplicate,
    /// This node is stopping.
    Stopping,
    /// A frame did not decode.
    Malformed,
    /// A frame was longer than any may be.
    FrameTooLarge,
    /// A stream or frame of a kind that this version does not know.
    UnknownKind,
    /// The peer's hardware claim or node record is not signed by its key.
    BadClaim,
    /// The peer reads so slowly that what it must hear no longer fits its queue.
    TooSlow,
    /// The node takes only peers that its operator has approved, and this one is not among them.
    NotApproved,
}

impl RefusalCode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::WrongFederation,
        Self::PolicyDiffers,
        Self::Version,
        Self::ProofOfWork,
        Self::NotAMember,
        Self::Revoked,
        Self::Expired,
        Self::Clone,
        Self::Forked,
        Self::TooManyPeers,
        Self::BackingOff,
        Self::HandshakeTimeout,
        Self::Duplicate,
        Self::Stopping,
        Self::Malformed,
        Self::FrameTooLarge,
        Self::UnknownKind,
        Self::BadClaim,
        Self::TooSlow,
        Self::NotApproved,
    ];

    /// Its number on the wire: 1 for the first of [`Self::ALL`].
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::WrongFederation => 1,
            Self::PolicyDiffers => 2,
            Self::Version => 3,
            Self::ProofOfWork => 4,
            Self::NotAMember => 5,
            Self::Revoked => 6,
            Self::Expired => 7,
            Self::Clone => 8,
            Self::Forked => 9,
            Self::TooManyPeers => 10,
            Self::BackingOff => 11,
            Self::HandshakeTimeout => 12,
            Self::Duplicate => 13,
            Self::Stopping => 14,
            Self::Malformed => 15,
            Self::FrameTooLarge => 16,
            Self::UnknownKind => 17,
            Self::BadClaim => 18,
            Self::TooSlow => 19,
            Self::NotApproved => 20,
        }
    }

    /// The code with that number, where this version knows one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|code| u64::from(code.number()) == number)
    }

    /// Its name in logs, counters and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongFederation => "wrong_federation",
            Self::PolicyDiffers => "policy_differs",
            Self::Version => "version",
            Self::ProofOfWork => "proof_of_work",
            Self::NotAMember => "not_a_member",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Clone => "clone",
            Self::Forked => "forked",
            Self::TooManyPeers => "too_many_peers",
            Self::BackingOff => "backing_off",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Duplicate => "duplicate",
            Self::Stopping => "stopping",
            Self::Malformed => "malformed",
            Self::FrameTooLarge => "frame_too_large",
            Self::UnknownKind => "unknown_kind",
            Self::BadClaim => "bad_claim",
            Self::TooSlow => "too_slow",
            Self::NotApproved => "not_approved",
        }
    }

    /// What happened, as the start of a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::WrongFederation => "the peer belongs to another federation",
            Self::PolicyDiffers => "the peer runs other rules",
            Self::Version => "the peer speaks another version of the protocol",
            Self::ProofOfWork => "the peer's proof of work is not enough",
            Self::NotAMember => "the peer is no member of this closed federation",
            Self::Revoked => "the peer's membership was revoked",
            Self::Expired => "the peer's certificate has expired",
            Self::Clone => "one node key is live in two places",
            Self::Forked => "the peer signed two different entries with one seq",
            Self::TooManyPeers => "the node has as many peers as it takes",
            Self::BackingOff => "the peer sent wrong entries and is refused for a while",
            Self::HandshakeTimeout => "the peer did not introduce itself in time",
            Self::Duplicate => "the two nodes are already linked",
            Self::Stopping => "the node is stopping",
            Self::Malformed => "the peer sent bytes that are no frame of this protocol",
            Self::FrameTooLarge => "the peer sent a frame that is longer than any may be",
            Self::UnknownKind => "the peer used a kind of stream or frame that this version does not know",
            Self::BadClaim => "the peer's claim about itself is not signed by its key",
            Self::TooSlow => "the peer reads too slowly",
            Self::NotApproved => "the node takes only peers that its operator has approved",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::WrongFederation => "start both nodes with the same `--federation`",
            Self::PolicyDiffers => "start one of them with the other's `--policy`",
            Self::Version | Self::UnknownKind => "run the same version of cogmesh on both nodes",
            Self::ProofOfWork => {
                "delete the node's data directory, so that it makes a new identity under this policy"
            }
            Self::NotAMember => "ask a member for an invitation",
            Self::Revoked => "ask the federation's operator",
            Self::Expired => "renew the certificate, and check the clock of both machines",
            Self::Clone => "stop one of the two nodes, and give it a data directory of its own",
            Self::Forked => "its operator has to start a new identity",
            Self::TooManyPeers => "connect to another node of the federation",
            Self::BackingOff => "wait; if it comes back, update the peer: its software sends wrong entries",
            Self::HandshakeTimeout => "check that the peer is a cogmesh node, and the load of both machines",
            Self::Duplicate | Self::Stopping => "nothing needs to be done",
            Self::Malformed | Self::FrameTooLarge | Self::BadClaim => {
                "check that the peer is a cogmesh node of the same version"
            }
            Self::NotApproved => {
                "ask its operator to run `cogmesh peers approve` with this node's id (`cogmesh id`)"
            }
            Self::TooSlow => "nothing is lost: it catches up when it connects again",
        }
    }

    /// Whose doing it is.
    #[must_use]
    pub const fn blame(self) -> Blame {
        match self {
            Self::WrongFederation
            | Self::PolicyDiffers
            | Self::Version
            | Self::ProofOfWork
            | Self::NotAMember
            | Self::Revoked
            | Self::Expired
            | Self::BackingOff
            | Self::HandshakeTimeout
            | Self::Malformed
            | Self::FrameTooLarge
            | Self::UnknownKind
            | Self::BadClaim => Blame::Peer,
            Self::Forked => Blame::Author,
            Self::Stopping | Self::NotApproved => Blame::Ours,
            Self::TooManyPeers | Self::Clone | Self::Duplicate | Self::TooSlow => Blame::Nobody,
        }
    }
}

/// A refusal: the code, and what it is about. It crosses the wire; its text comes from the other side and is
/// escaped by whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// The values that it is about, such as `rate_base is 100 there, 10 here`; may be empty. At most
    /// [`ABOUT_BYTES_MAX`] bytes.
    pub about: String,
}

impl Refusal {
    /// A refusal that needs no more words than its code.
    #[must_use]
    pub const fn plain(code: RefusalCode) -> Self {
        Self { code, about: String::new() }
    }

    /// A refusal about something; what is too long for the wire is cut.
    #[must_use]
    pub fn about(code: RefusalCode, about: impl fmt::Display) -> Self {
        let mut about = about.to_string();
        about.truncate(about.floor_char_boundary(ABOUT_BYTES_MAX));
        Self { code, about }
    }
}

impl fmt::Display for Refusal {
    /// The sentence, with what it is about; the text of the other side is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.sentence())?;
        if !self.about.is_empty() {
            write!(f, " ({})", self.about.escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_of_its_own_and_is_found_by_it() {
        for (index, code) in RefusalCode::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), index + 1);
            assert_eq!(RefusalCode::from_number(u64::from(code.number())), Some(code));
        }
        assert_eq!(RefusalCode::from_number(0), None);
        assert_eq!(RefusalCode::from_number(1 << 40), None);
    }

    #[test]
    fn what_a_refusal_is_about_is_cut_between_characters_and_shown_escaped() {
        let refusal = Refusal::about(RefusalCode::PolicyDiffers, "é".repeat(200));
        assert_eq!(refusal.about.len(), ABOUT_BYTES_MAX);
        let hostile = Refusal::about(RefusalCode::Malformed, "\u{1b}[2J");
        assert!(!hostile.to_string().contains('\u{1b}'));
    }
}
