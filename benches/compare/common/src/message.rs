//! Messages: 256 bytes, each different. Those of ours are text that its rules accept; the others begin with a number and a time in binary
//! and go on with such text.

use bytes::{Bytes, BytesMut};

/// Bytes of each message.
pub const MESSAGE_BYTES: usize = 256;
const HEAD_BYTES: usize = 17;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is counted.
    Data,
    /// It is to be answered.
    Ping,
    /// It is an answer.
    Pong,
    /// It tells that there is a way, and is not counted.
    Warm,
}

/// What stands at the beginning of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub number: u64,
    /// When it was due, on the monotonic clock.
    pub due_ns: u64,
}

impl Message {
    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(MESSAGE_BYTES);
        bytes.extend_from_slice(&[self.kind as u8]);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.due_ns.to_le_bytes());
        bytes.extend_from_slice(&WORDS.as_bytes()[..MESSAGE_BYTES - HEAD_BYTES]);
        bytes.freeze()
    }

    /// The message in those bytes, where there is one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let (kind, rest) = head.split_first()?;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Ping,
            2 => Kind::Pong,
            3 => Kind::Warm,
            _ => return None,
        };
        let (number, due) = rest.split_first_chunk::<8>()?;
        let due_ns = u64::from_le_bytes(due.try_into().ok()?);
        Some(Self { kind, number: u64::from_le_bytes(*number), due_ns })
    }
}

const WORDS: &str = "signed logs let every machine recompute balances alone while agreement needs neither leader nor voting rounds; \
    evidence travels between distributed nodes, verified once, stored durably, folded exactly, then delivered towards whoever listens \
    under measured pressure without silent loss";

/// A text of 256 bytes that nobody has written before: common words, and a word that spells the number.
#[must_use]
pub fn text(number: u64) -> String {
    let mut text = String::with_capacity(MESSAGE_BYTES);
    let mut left = number;
    // Letters only, so that it counts as a word.
    for _ in 0..12 {
        text.push(char::from(b'a' + u8::try_from(left % 26).expect("26 is small")));
        left /= 26;
    }
    text.push(' ');
    text.push_str(&WORDS[..MESSAGE_BYTES - text.len()]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_length_and_come_back_as_they_were() {
        let message = Message { kind: Kind::Pong, number: 77, due_ns: u64::MAX };
        assert_eq!(message.encode().len(), MESSAGE_BYTES);
        assert_eq!(Message::decode(&message.encode()), Some(message));
        assert_eq!(Message::decode(&[0; 3]), None);
    }

    #[test]
    fn texts_have_their_length_and_differ() {
        let texts: std::collections::BTreeSet<String> = (0..10_000).map(text).collect();
        assert_eq!(texts.len(), 10_000);
        assert!(texts.iter().all(|text| text.len() == MESSAGE_BYTES));
    }
}
