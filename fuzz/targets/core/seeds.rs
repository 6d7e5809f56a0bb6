//! Programmes to begin with: peers come, talk, fall out and go.

use bytes::Bytes;
use cogmesh::{
    ledger::types::{Millis, Seq},
    log::{Alive, Revocation, books::Span},
    protocol::{
        frame::{BalanceFrame, ControlFrame, Instance},
        input::Now,
        refusal::{Refusal, RefusalCode},
        wire::{LENGTH_BYTES, WireFault, encode_balance, encode_control, encode_segment},
    },
};

use super::cast::{BEGINNING, CAST, Manner};

const OPEN: Manner = Manner { closed: false, pinned: false, crowded: false };
/// The disk is done with all that waits.
const WRITTEN: [u8; 4] = [11; 4];

/// Each begins with how the node is run.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = [of_others(), of_its_own()].concat();
    for frame in control_frames() {
        seeds.push([admitted(1, 1), with_bytes(&[4, 0, 1], encode_control(&frame)), vec![1, 1]].concat());
    }
    for frame in balance_frames() {
        seeds.push(
            [
                admitted(0, 1),
                heard(1, 0, 0, 6),
                WRITTEN.to_vec(),
                with_bytes(&[5, 0, 1], encode_balance(&frame)),
                vec![1, 14],
            ]
            .concat(),
        );
    }
    let segment = CAST.person(3).segment(0, 0, 4).unwrap();
    seeds.push(
        [admitted(0, 1), with_bytes(&[9, 0, 1, 0], encode_segment(&segment)), WRITTEN.to_vec()].concat(),
    );
    seeds
}

/// What happens to others' logs.
fn of_others() -> Vec<Vec<u8>> {
    vec![
        // Somebody's entries come, in two pieces, the second one again, and behind them an old piece.
        [admitted(0, 1), heard(1, 0, 0, 6), heard(1, 0, 6, 6), heard(1, 0, 6, 6), heard(1, 0, 2, 3)].concat(),
        // Entries with a hole, what would fill it is asked for, and comes.
        [admitted(0, 1), heard(1, 0, 0, 2), heard(1, 0, 8, 4), head(1, 0, 11), heard(1, 0, 2, 6)].concat(),
        // Two histories of one author, and the proof; an operator takes the author back.
        [
            admitted(0, 2),
            heard(1, 0, 0, 9),
            WRITTEN.to_vec(),
            heard(1, 1, 2, 6),
            vec![13, 13],
            WRITTEN.to_vec(),
            vec![10, 0, 1, 0, 1, 0, 8, 1, 8],
            WRITTEN.to_vec(),
            vec![21, 1, 2],
            heard(1, 0, 0, 12),
        ]
        .concat(),
        // One that lies about a content.
        [admitted(0, 1), heard(1, 2, 0, 9), WRITTEN.to_vec(), head(1, 2, 8)].concat(),
        // Two links to one node, the same process and then another one; it is heard of, and goes.
        [
            admitted(0, 1),
            vec![2, 1, 2],
            vec![3, 1, 0, 0],
            vec![2, 1, 2],
            vec![3, 1, 1, 0, 77],
            vec![18, 0, 0],
            vec![18, 0, 13],
        ]
        .concat(),
    ]
}

/// What happens to its own log, and around it.
fn of_its_own() -> Vec<Vec<u8>> {
    vec![
        // Our own key, elsewhere: another process, and entries that this one never wrote.
        [
            admitted(0, 1),
            vec![2, 0, 2],
            vec![3, 1, 1, 0, 9],
            head(0, 0, 5),
            heard(0, 0, 0, 6),
            WRITTEN.to_vec(),
        ]
        .concat(),
        // A copy of a data directory: its own log comes back from a peer, in two pieces, and goes on.
        [
            admitted(8, 1),
            head(0, 0, 8),
            heard(0, 0, 0, 5),
            WRITTEN.to_vec(),
            heard(0, 0, 5, 4),
            WRITTEN.to_vec(),
            vec![7, 0, 0, 1, 1, 1, 20, 0, 1, 1],
            WRITTEN.to_vec(),
            vec![20, 0, 1, 2, 23, 1, 2, 1, 2, 3, 0, 0, 0],
            head(0, 0, 8),
            WRITTEN.to_vec(),
        ]
        .concat(),
        // Thoughts of our own, with a key twice, and a restart before the last is written.
        [
            admitted(0, 1),
            vec![20, 1, 1, 1, 20, 1, 1, 1, 20, 0, 1, 2, 20, 0, 0, 3],
            WRITTEN.to_vec(),
            vec![20, 0, 1, 4, 23, 0, 11, 20, 0, 1, 5],
            WRITTEN.to_vec(),
        ]
        .concat(),
        // Closed, and one is thrown out; pinned, and one is approved; crowded.
        [admitted(1, 1), vec![21, 1, 0, 2, 1, 2, 3, 0, 0, 0]].concat(),
        [admitted(2, 2), vec![21, 2, 1, 1, 2, 2, 2, 3, 1, 0, 0]].concat(),
        [admitted(4, 1), vec![2, 2, 2, 3, 1, 0, 0, 2, 3, 2, 3, 2, 0, 0, 1, 1]].concat(),
        // Heard of, dialled, and it answers; and somebody who does not.
        vec![0, 11, 19, 1, 16, 1, 7, 0, 34, 2, 1, 0, 3, 0, 0, 1, 19, 2, 17, 1, 8, 0, 34, 2, 2, 1, 1, 1],
        // Full queues, a full disk, a damaged entry, a clock that jumps.
        [
            admitted(0, 1),
            heard(1, 0, 0, 4),
            WRITTEN.to_vec(),
            vec![17, 0, 0, 1, 17, 1, 1, 2, 17, 2, 17, 3, 22, 255, 127, 1, 1, 22, 0, 128, 1, 14, 15, 0, 1],
        ]
        .concat(),
    ]
}

/// A node run in that manner that has written its first entry, and a peer that dialled it, on its first link.
fn admitted(manner: u8, who: u8) -> Vec<u8> {
    vec![manner, 11, 2, who, 2, 3, 0, 0, 0]
}

/// Entries of an author's come over the first link.
fn heard(who: u8, history: u8, first: u8, count: u8) -> Vec<u8> {
    vec![8, 0, who, history, 1, first, count - 1]
}

fn head(who: u8, history: u8, seq: u8) -> Vec<u8> {
    vec![7, 0, 1, who, history, seq]
}

fn with_bytes(step: &[u8], frame: Result<Bytes, WireFault>) -> Vec<u8> {
    let frame = frame.unwrap();
    let frame = &frame[LENGTH_BYTES..];
    [step, &u16::try_from(frame.len()).unwrap().to_le_bytes(), frame].concat()
}

fn control_frames() -> Vec<ControlFrame> {
    let now = Now { mono: Millis(0), wall: Millis(BEGINNING) };
    let setup = |number| CAST.setup(number, OPEN);
    let alive = Alive::sign(&CAST.person(0).identity, &CAST.federation(), 9, 0);
    let revocation = Revocation::sign(&CAST.ca, &CAST.federation(), CAST.person(2).id(), Millis(BEGINNING));
    vec![
        ControlFrame::Hello(Box::new(setup(1).hello(now, &[0; 32]))),
        ControlFrame::Records((1..4).map(|number| setup(number).signed_record(now)).collect()),
        ControlFrame::Ping { number: 1, clock: now.wall },
        ControlFrame::Pong { number: 0, clock: Millis(BEGINNING - 60_000) },
        ControlFrame::Rival { instance: Instance(9) },
        ControlFrame::Alive(alive),
        ControlFrame::Clone(alive),
        ControlFrame::About { software: "cogmesh 0.1.0".to_owned() },
        ControlFrame::Revocations(vec![revocation]),
        ControlFrame::Refused(Refusal::plain(RefusalCode::TooManyPeers)),
    ]
}

fn balance_frames() -> Vec<BalanceFrame> {
    let author = CAST.person(1).id();
    vec![
        BalanceFrame::Want { author, from: Seq(2) },
        BalanceFrame::Mend { author, span: Span { first: Seq(1), last: Seq(3) } },
        BalanceFrame::Prove { author },
        BalanceFrame::Follow { author, on: true },
    ]
}
