//! Whatever comes in a packet of mDNS: no panic and no hang in the library that reads it before any code of ours.

use mdns_sd::RRType;

const HEADER_BYTES: usize = 12;
const PTR: u16 = 12;

/// Checks what the library itself says of every packet that parses. It does not tell which did, so this says that it was taken.
pub(crate) fn check(data: &[u8]) -> bool {
    mdns_sd::fuzz_api::parse_packet(&with_known_questions(data));
    true
}

/// The same packet, with a question for PTR records wherever it asks for a type that the library does not know. It skips those, which is right,
/// but its check of the number of questions (0.21.7) takes that for a fault.
fn with_known_questions(data: &[u8]) -> Vec<u8> {
    let mut packet = data.to_vec();
    let count = packet.get(4..6).map_or(0, |count| u16::from_be_bytes([count[0], count[1]]));
    let mut at = HEADER_BYTES;
    for _ in 0..count {
        let Some(kind) = end_of_name(&packet, at).and_then(|end| packet.get_mut(end..end + 2)) else { break };
        if RRType::from_u16(u16::from_be_bytes([kind[0], kind[1]])).is_none() {
            kind.copy_from_slice(&PTR.to_be_bytes());
        }
        at = end_of_name(&packet, at).map_or(packet.len(), |end| end + 4);
    }
    packet
}

/// Behind a zero, or behind a pointer.
fn end_of_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length @ 1..64 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            64..192 => return None,
        }
    }
}

/// A question and an answer with the records that a node announces (RFC 1035, 4.1; RFC 6763).
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let service = name(&["_cogmesh", "_udp", "local"]);
    let instance = name(&["legion-vt6cqa3a", "_cogmesh", "_udp", "local"]);
    let host = name(&["vt6cqa3a", "local"]);
    let question = [&header(0, 1, 0)[..], &service, &[0, 12, 0, 1]].concat();
    let text = [&b"\x03v=1"[..], b"\x14fed=0123456789abcdef"].concat();
    let port = [&[0, 0, 0, 0, 0x22, 0xb8][..], &host].concat();
    let answer = [
        header(0x8400, 0, 5),
        record(&service, 12, &instance),
        record(&instance, 33, &port),
        record(&instance, 16, &text),
        record(&host, 1, &[10, 77, 0, 9]),
        record(&host, 28, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]),
    ];
    // A name that ends in a pointer to the first one.
    let pointing =
        [header(0x8400, 0, 2), record(&service, 12, &instance), record(&[0xc0, 12], 12, &[0xc0, 12])];
    let nsec = [header(0x8400, 0, 1), record(&host, 47, &[&host[..], &[0, 4, 0x40, 0, 0, 8]].concat())];
    vec![question, answer.concat(), pointing.concat(), nsec.concat()]
}

fn header(flags: u16, questions: u16, answers: u16) -> Vec<u8> {
    [0, flags, questions, answers, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [name, &kind.to_be_bytes(), &[0x80, 1], &120_u32.to_be_bytes(), &length, data].concat()
}

fn name(labels: &[&str]) -> Vec<u8> {
    let mut out = vec![];
    for label in labels {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}
