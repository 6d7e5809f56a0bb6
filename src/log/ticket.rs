//! Tickets: what a newcomer must know to be let into a closed federation, as a text that can be typed, sent or scanned.
//! Source: protocol.md, Membership.

use std::{fmt, net::SocketAddr, str::FromStr};

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroize;

use super::{
    ca::CaHash,
    federation::FederationId,
    identity::{KeyFault, NodeId},
    layout::{LayoutFault, Reader, put_short, sha256},
    name::{FederationName, NameFault},
    peer_record::{RECORD_ADDRESSES_MAX, RecordFault, put_address, read_address},
};
use crate::ledger::{policy::Policy, types::Millis};

/// What every ticket begins with, in letters that a QR code takes in its short mode.
const START: &str = "COGMESH-";
/// The layout of the bytes behind it.
const LAYOUT: u8 = 1;
/// Bytes of the checksum at the end: one typing mistake in four thousand million goes unnoticed, and then nobody answers.
const CHECKSUM_BYTES: usize = 4;
/// Characters of the longest ticket: every name and address of full length.
pub const TICKET_CHARS_MAX: usize = 1_024;

/// What lets one node in, once. Whoever has it may use it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub [u8; Self::BYTES]);

impl Token {
    /// Bytes of a token.
    pub const BYTES: usize = 16;
    /// Bytes of its name.
    const NAME_BYTES: usize = 5;

    /// What it is called in lists: nobody gets in with that.
    #[must_use]
    pub fn name(&self) -> String {
        let hash = sha256(&[b"cogmesh token name v1\0", &self.0]);
        BASE32_NOPAD.encode(hash.get(..Self::NAME_BYTES).unwrap_or_default()).to_ascii_lowercase()
    }

    /// What is kept of it: enough to know it again, and not to use it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(&[b"cogmesh token v1\0", &self.0])
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.name()).finish()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// An invitation into a closed federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The federation's name.
    pub name: FederationName,
    /// The hash of its rules: who joins has to run with the same.
    pub policy: [u8; 32],
    /// The hash of its CA's key: what the inviter shows must fit it.
    pub ca: CaHash,
    /// Who invites.
    pub inviter: NodeId,
    /// Where it can be reached; at most eight.
    pub addresses: Vec<SocketAddr>,
    /// What lets one node in.
    pub token: Token,
    /// Until when.
    pub expires: Millis,
}

/// A text that is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketFault {
    /// It begins otherwise, or is much too long.
    #[error("a ticket begins with `{START}` and has at most {TICKET_CHARS_MAX} characters")]
    NoTicket,
    /// Other characters than base32 has, or too few.
    #[error("the ticket is cut off, or holds something that is none of `A`–`Z` and `2`–`7`")]
    Encoding,
    /// It was copied wrongly.
    #[error("the ticket's checksum is wrong: a part of it is missing or was changed")]
    Checksum,
    /// Of a later version.
    #[error("the ticket has layout {0}; this version reads {LAYOUT}")]
    Version(u8),
    /// Too few bytes, or too many.
    #[error("not a ticket: {0}")]
    Layout(#[from] LayoutFault),
    /// A name that breaks its rule.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// A key that no node may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Its addresses.
    #[error(transparent)]
    Address(#[from] RecordFault),
}

impl Ticket {
    /// The hash of rules, as a ticket has it.
    #[must_use]
    pub fn policy_hash(policy: &Policy) -> [u8; 32] {
        sha256(&[b"cogmesh policy v1\0", policy.to_bytes().as_slice()])
    }

    /// The federation that it lets into, with those rules.
    #[must_use]
    pub fn federation(&self, policy: &Policy) -> FederationId {
        FederationId::new(&self.name, policy, Some(&self.ca.0))
    }

    /// Its layout, without the checksum that its text has.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![LAYOUT];
        put_short(&mut out, self.name.as_str());
        out.extend_from_slice(&self.policy);
        out.extend_from_slice(&self.ca.0);
        out.extend_from_slice(self.inviter.as_bytes());
        out.extend_from_slice(&self.token.0);
        out.extend_from_slice(&self.expires.0.to_le_bytes());
        let addresses = self.addresses.get(..RECORD_ADDRESSES_MAX).unwrap_or(&self.addresses);
        // At most eight.
        out.push(addresses.len() as u8);
        for address in addresses {
            put_address(&mut out, address);
        }
        out
    }

    /// Reads its layout.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, TicketFault> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            LAYOUT => {}
            other => return Err(TicketFault::Version(other)),
        }
        let name = FederationName::try_from(reader.short()?)?;
        let (policy, ca) = (reader.array()?, CaHash(reader.array()?));
        let inviter = NodeId::from_key(reader.array()?)?;
        let (token, expires) = (Token(reader.array()?), Millis(reader.u64()?));
        let count = reader.u8()?;
        if usize::from(count) > RECORD_ADDRESSES_MAX {
            return Err(RecordFault::TooMany { addresses: usize::from(count) }.into());
        }
        let addresses = (0..count).map(|_| read_address(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { name, policy, ca, inviter, addresses, token, expires })
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.to_bytes();
        let checksum = sha256(&[&bytes]);
        bytes.extend_from_slice(checksum.get(..CHECKSUM_BYTES).unwrap_or_default());
        write!(f, "{START}{}", BASE32_NOPAD.encode(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketFault;

    /// Reads a ticket, in capitals or not.
    fn from_str(text: &str) -> Result<Self, TicketFault> {
        if text.len() > TICKET_CHARS_MAX {
            return Err(TicketFault::NoTicket);
        }
        let text = text.trim().to_ascii_uppercase();
        let text = text.strip_prefix(START).ok_or(TicketFault::NoTicket)?;
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| TicketFault::Encoding)?;
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketFault::Encoding)?;
        if sha256(&[bytes]).get(..CHECKSUM_BYTES) != Some(checksum) {
            return Err(TicketFault::Checksum);
        }
        Self::parse(bytes)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::log::Identity;

    fn ticket() -> Ticket {
        Ticket {
            name: "lab".parse().unwrap(),
            policy: Ticket::policy_hash(&Policy::default()),
            ca: CaHash([2; 32]),
            inviter: Identity::from_seed(&[3; 32]).unwrap().node_id(),
            addresses: vec!["192.0.2.7:8888".parse().unwrap(), "[2001:db8::7]:8888".parse().unwrap()],
            token: Token([4; 16]),
            expires: Millis(1_795_392_000_000),
        }
    }

    #[test]
    fn a_ticket_is_read_as_it_was_written_whatever_the_case() {
        let text = ticket().to_string();
        assert_eq!(text.parse(), Ok(ticket()));
        assert_eq!(format!("  {}\n", text.to_lowercase()).parse(), Ok(ticket()));
        assert!(text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'), "{text}");
        let longest = Ticket {
            name: "n".repeat(64).parse().unwrap(),
            addresses: vec!["[2001:db8::7]:8888".parse().unwrap(); RECORD_ADDRESSES_MAX],
            ..ticket()
        };
        let text = longest.to_string();
        assert!(text.len() <= TICKET_CHARS_MAX, "{}", text.len());
        assert_eq!(text.parse(), Ok(longest));
    }

    #[test]
    fn what_is_no_ticket_is_refused_with_what_is_wrong() {
        let text = ticket().to_string();
        let changed = text.replacen('A', "B", 1);
        for (text, part) in [
            ("", "begins with"),
            ("COGMESH-", "cut off"),
            ("COGMESH-1", "none of"),
            (&text[..text.len() - 8], "missing or was changed"),
            (&changed, "missing or was changed"),
            (&text.repeat(9), "at most"),
        ] {
            let fault = text.parse::<Ticket>().unwrap_err().to_string();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let shown = format!("{:?}", ticket());
        assert!(!shown.contains("4, 4") && !shown.contains(&HEXLOWER.encode(&[4; 4])), "{shown}");
        assert_eq!(ticket().token.name().len(), 8);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "COGMESH-[A-Z2-7]{0,300}") {
            let _fault = text.parse::<Ticket>();
        }

        #[test]
        fn what_is_read_is_written_again_as_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = vec![LAYOUT];
            whole.extend_from_slice(&bytes);
            let checksum = sha256(&[&whole]);
            whole.extend_from_slice(&checksum[..CHECKSUM_BYTES]);
            let text = format!("{START}{}", BASE32_NOPAD.encode(&whole));
            if let Ok(ticket) = text.parse::<Ticket>() {
                prop_assert_eq!(ticket.to_string(), text);
            }
        }
    }
}
