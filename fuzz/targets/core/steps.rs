//! The steps of a programme.

use cogmesh::{
    ledger::{
        Policy,
        types::{Level, MicroAtp, Millis, Seq},
    },
    log::{Alive, Entry, Hash, Head, Mode, NodeId, NodeRecord, Proof, Revocation, Segment, books::Span},
    protocol::{
        frame::{BalanceFrame, ControlFrame, FaultReport, HeadReport, Hello, Instance, StreamKind},
        hello::Setup,
        input::{Address, DiskLow, Ended, Hint, Input, LinkId, Now, Source, Submission},
        recovery::Doubt,
        refusal::{Refusal, RefusalCode},
        wire::{decode_balance, decode_control, decode_segment},
    },
    store::Store,
};

use super::{
    Bytes,
    cast::{CAST, ENTRIES, HISTORIES, Manner, PEOPLE, thought},
    node::Node,
};

const OPEN: Manner = Manner { closed: false, pinned: false, crowded: false };

/// Does what the next bytes say. What can't be done now is left out.
pub(super) fn step(node: &mut Node, bytes: &mut Bytes<'_>) {
    match bytes.u8() % 24 {
        0 => node.pass(u64::from(bytes.u16())),
        1 => node.pass(node.until_due().min(3_600_000)),
        2 => connect(node, bytes),
        3 => introduce(node, bytes),
        4 => control(node, bytes),
        5 => balance(node, bytes),
        6 => told(node, bytes),
        7 => heads(node, bytes),
        8 => known_segment(node, bytes),
        9 => any_segment(node, bytes),
        10 => convict(node, bytes),
        11 | 12 => drop(node.written()),
        13 => node.compared(),
        14 => {
            if let Some((link, author)) = node.serves.pop_front() {
                node.handle(Input::Served { link, author });
            }
        }
        15 => {
            if let Some(link) = admitted(node, bytes) {
                let author = CAST.person(bytes.u8()).id();
                node.handle(Input::CaughtUp { link, author });
            }
        }
        16 => known(node, bytes),
        17 => trouble(node, bytes),
        18 => end(node, bytes),
        19 => hint(node, bytes),
        20 => submit(node, bytes),
        21 => operate(node, bytes),
        22 => node.skew = i64::from(i16::from_le_bytes(bytes.u16().to_le_bytes())) * 1_000,
        _ => node.restart((bytes.u8() % 2 == 1).then_some(Doubt::UncleanStop)),
    }
}

/// Somebody dials, or answers where the node dialled.
fn connect(node: &mut Node, bytes: &mut Bytes<'_>) {
    let who = CAST.person(bytes.u8()).id();
    match bytes.u8() % 4 {
        0 => {
            if let Some(attempt) = node.dials.pop_front() {
                node.connect(who, Some(attempt));
            }
        }
        1 => {
            if let Some(attempt) = node.dials.pop_front() {
                node.handle(Input::DialFailed { attempt, why: "nobody there".into() });
            }
        }
        _ => {
            node.connect(who, None);
        }
    }
}

fn link(node: &Node, bytes: &mut Bytes<'_>) -> Option<LinkId> {
    let which = bytes.below(node.links.len());
    node.links.keys().nth(which).copied()
}

/// A link of which more than the control stream is read.
fn admitted(node: &Node, bytes: &mut Bytes<'_>) -> Option<LinkId> {
    link(node, bytes).filter(|link| node.links[link].admitted)
}

/// The introduction that belongs to a link, with what the bytes change of it.
fn introduce(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = link(node, bytes) else { return };
    let (who, exporter) = (node.links[&link].node, node.links[&link].exporter);
    let Some(number) = (0..PEOPLE).find(|number| CAST.person(*number).id() == who) else { return };
    let mut setup = CAST.setup(number, OPEN);
    let (changes, is_dialler) = (bytes.u8(), bytes.one_in(2));
    if changes & 1 != 0 {
        setup.instance = Instance(bytes.number());
    }
    if changes & 2 != 0 {
        setup.addresses =
            (0..bytes.below(9)).map(|_| ([192, 0, 2, bytes.u8()], bytes.u16()).into()).collect();
    }
    if changes & 4 != 0 {
        change_rules(&mut setup, bytes);
    }
    let wall = if changes & 8 != 0 { bytes.number() } else { node.now().wall.0 };
    let mut hello = setup.hello(Now { wall: Millis(wall), ..node.now() }, &exporter);
    if changes & 16 != 0 {
        hello.nonce.0 = bytes.number();
    }
    if changes & 32 != 0 {
        hello.version = bytes.u16();
    }
    if changes & 64 != 0 {
        hello.claim.level = Level::try_from(1 + bytes.u8() % 5).unwrap();
    }
    if changes & 128 != 0 {
        hello.policy = bytes.some().to_vec();
        hello.policy.truncate(512);
    }
    let hello = Box::new(hello);
    let frame = if is_dialler { ControlFrame::Hello(hello) } else { ControlFrame::Admitted(hello) };
    node.handle(Input::Control { link, frame });
}

fn change_rules(setup: &mut Setup, bytes: &mut Bytes<'_>) {
    let mut policy = setup.policy.to_bytes();
    let place = bytes.below(policy.len());
    policy[place] = bytes.u8();
    if let Ok(policy) = Policy::from_bytes(&policy) {
        setup.federation = cogmesh::log::FederationId::new(&setup.federation_name, &policy, None);
        setup.policy = policy;
    }
}

/// A control frame that was sent as those bytes; what somebody here could have signed, it did.
fn control(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = link(node, bytes) else { return };
    let is_signed = !bytes.one_in(4);
    let Ok(mut frame) = decode_control(bytes.some()) else { return };
    if is_signed {
        let (who, exporter) = (node.links[&link].node, node.links[&link].exporter);
        sign(&mut frame, who, &exporter);
    }
    node.handle(Input::Control { link, frame });
}

fn sign(frame: &mut ControlFrame, from: NodeId, exporter: &[u8; 32]) {
    let record_signature = |record: &NodeRecord| CAST.who(record.id()).map(|who| record.sign(&who.identity));
    match frame {
        ControlFrame::Hello(hello) | ControlFrame::Admitted(hello) => {
            let Some(who) = CAST.who(from) else { return };
            let Hello { record, .. } = &**hello;
            let own =
                NodeRecord::of_first(from, record.name().clone(), record.addresses().to_vec(), record.time());
            hello.record_signature = own.sign(&who.identity);
            hello.record = own;
            hello.claim_signature = hello.claim.sign(&who.identity, exporter);
            hello.federation = CAST.federation();
            hello.nonce = who.nonce();
        }
        ControlFrame::Records(records) => {
            for signed in records {
                if let Some(signature) = record_signature(&signed.record) {
                    signed.signature = signature;
                }
            }
        }
        ControlFrame::Alive(alive) | ControlFrame::Clone(alive) => {
            *alive = Alive::sign(&CAST.person(0).identity, &CAST.federation(), alive.instance, alive.other);
        }
        ControlFrame::Revocations(revocations) => {
            for revocation in revocations {
                *revocation =
                    Revocation::sign(&CAST.ca, &CAST.federation(), revocation.node, revocation.time);
            }
        }
        ControlFrame::Refused(_)
        | ControlFrame::Ping { .. }
        | ControlFrame::Pong { .. }
        | ControlFrame::Rival { .. }
        | ControlFrame::About { .. } => {}
    }
}

/// A balance-sync frame that was sent as those bytes, with heads that their authors signed.
fn balance(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = admitted(node, bytes) else { return };
    let is_signed = !bytes.one_in(4);
    let Ok(mut frame) = decode_balance(bytes.some()) else { return };
    if let BalanceFrame::Heads(reports) = &mut frame
        && is_signed
    {
        for HeadReport { head, .. } in reports {
            if let Some(who) = CAST.who(head.author) {
                *head = Head::sign(&who.identity, &CAST.federation(), head.seq, head.hash);
            }
        }
    }
    node.handle(Input::Balance { link, frame });
}

/// One that a node could have sent.
fn told(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = admitted(node, bytes) else { return };
    let author = CAST.person(bytes.u8()).id();
    let (kind, first, last) = (bytes.u8(), Seq(bytes.number()), Seq(bytes.number()));
    let frame = match kind % 6 {
        0 => BalanceFrame::Want { author, from: first },
        1 => BalanceFrame::Mend { author, span: Span { first: first.min(last), last: first.max(last) } },
        2 => BalanceFrame::Prove { author },
        3 => BalanceFrame::Follow { author, on: true },
        4 => BalanceFrame::Follow { author, on: false },
        _ => {
            let hash = known_hash(author, first);
            BalanceFrame::Faults(vec![FaultReport {
                author,
                cut: first.max(last),
                held: first.min(last).0,
                hash,
                balance: MicroAtp(0),
                digest: [0; 32],
            }])
        }
    };
    node.handle(Input::Balance { link, frame });
}

fn known_hash(author: NodeId, held: Seq) -> Hash {
    let place = usize::try_from(held.0.saturating_sub(1)).unwrap_or(usize::MAX);
    let entry = CAST.who(author).and_then(|who| who.entries(0, place, 1).first().map(Entry::hash));
    entry.unwrap_or(Hash::ZERO)
}

/// Heads of histories that were written, and of entries that were not.
fn heads(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = admitted(node, bytes) else { return };
    let mut reports = vec![];
    for _ in 0..bytes.below(8) {
        let (who, history, seq) = (CAST.person(bytes.u8()), bytes.u8(), bytes.number());
        let place = usize::try_from(seq).unwrap_or(usize::MAX);
        let hash = who.entries(history, place, 1).first().map_or(Hash([history; 32]), Entry::hash);
        let head = Head::sign(&who.identity, &CAST.federation(), Seq(seq), hash);
        let book = node.store.book(who.id()).unwrap().filter(|book| book.seq() == head.seq);
        let digest = book.as_ref().map_or([history; 32], |book| book.account.digest());
        let balance = book.map_or(MicroAtp(7), |book| book.account.balance);
        reports.push(HeadReport { head, balance, digest });
    }
    node.handle(Input::Balance { link, frame: BalanceFrame::Heads(reports) });
}

/// Entries that their author wrote, in whichever of its histories.
fn known_segment(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = admitted(node, bytes) else { return };
    let (who, history, how) = (CAST.person(bytes.u8()), bytes.u8(), bytes.u8());
    let (first, count) = (bytes.below(ENTRIES), 1 + bytes.below(ENTRIES));
    let Some(segment) = who.segment(history, first, count) else { return };
    let segment = if how % 4 == 0 { segment.bare() } else { segment };
    node.hear(link, segment);
}

/// A segment that was sent as those bytes, chained and signed by its author where that is somebody here.
fn any_segment(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = admitted(node, bytes) else { return };
    let (chained, history) = (!bytes.one_in(4), bytes.u8());
    let Ok(segment) = decode_segment(bytes.some(), &CAST.federation()) else { return };
    let segment = if chained { resigned(&segment, history).unwrap_or(segment) } else { segment };
    node.hear(link, segment);
}

/// The same entries behind what their author wrote before, with its signature.
fn resigned(segment: &Segment, history: u8) -> Option<Segment> {
    let who = CAST.who(segment.author())?;
    let before = usize::try_from(segment.first().0).ok()?.checked_sub(1);
    let mut prev = match before {
        Some(place) => who.entries(history, place, 1).first()?.hash(),
        None => Hash::ZERO,
    };
    let mut entries = vec![];
    for entry in segment.entries() {
        let mut header = entry.header().clone();
        header.prev = prev;
        let content = entry.content_text().map(str::to_owned);
        let entry = Entry::new(&CAST.federation(), header, content.as_deref());
        prev = entry.hash();
        entries.push(entry);
    }
    Some(Segment::own(entries, &who.identity, &CAST.federation()).ok()?.into_inner())
}

/// What convicts somebody, or does not.
fn convict(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = admitted(node, bytes) else { return };
    let who = CAST.person(bytes.u8());
    let (one, other) = (bytes.below(usize::from(HISTORIES)) as u8, bytes.below(usize::from(HISTORIES)) as u8);
    let segment =
        |history, bytes: &mut Bytes<'_>| who.segment(history, bytes.below(ENTRIES), 1 + bytes.below(ENTRIES));
    let (one, other) = (segment(one, bytes), segment(other, bytes));
    let fork = one.zip(other).and_then(|(one, other)| Proof::fork(one, other));
    let input = match fork {
        Some(proof) => match proof.verify(&CAST.rules()) {
            Ok(proof) => Input::Proof { link, proof: Box::new(proof) },
            Err(fault) => Input::ProofWrong { link, fault },
        },
        None => match Proof::parse(bytes.some(), &CAST.federation())
            .and_then(|proof| proof.verify(&CAST.rules()))
        {
            Ok(proof) => Input::Proof { link, proof: Box::new(proof) },
            Err(fault) => Input::ProofWrong { link, fault },
        },
    };
    node.handle(input);
}

/// A live segment of which the node holds everything.
fn known(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = admitted(node, bytes) else { return };
    let author = CAST.person(bytes.u8()).id();
    let Some(book) = node.store.book(author).unwrap() else { return };
    let last = Seq(bytes.number().min(book.seq().0));
    node.handle(Input::Known { link, author, last });
}

/// Trouble of the node's own.
fn trouble(node: &mut Node, bytes: &mut Bytes<'_>) {
    match bytes.u8() % 5 {
        0 => {
            let Some(link) = link(node, bytes) else { return };
            let kind = StreamKind::ALL[1 + bytes.below(2)];
            node.handle(Input::QueueFull { link, kind });
        }
        1 => {
            let author = CAST.person(bytes.u8()).id();
            let Some(book) = node.store.book(author).unwrap() else { return };
            let seq = Seq(bytes.number().min(book.seq().0));
            node.handle(Input::Damaged { author, seq });
        }
        2 => node.handle(Input::Disk(Some(DiskLow { free: 1, min: 2 }))),
        3 => node.handle(Input::Disk(None)),
        _ => node.handle(Input::NetworkChanged),
    }
}

fn end(node: &mut Node, bytes: &mut Bytes<'_>) {
    let Some(link) = link(node, bytes) else { return };
    let why = match RefusalCode::from_number(bytes.number()) {
        Some(code) => Ended::Refused(Refusal::plain(code)),
        None => Ended::Broke("no answer".into()),
    };
    node.disconnect(link, why);
}

fn hint(node: &mut Node, bytes: &mut Bytes<'_>) {
    let who = CAST.person(bytes.u8()).id();
    let what = bytes.u8();
    let source = [Source::Mdns, Source::Seed, Source::Remembered, Source::Record][usize::from(what % 4)];
    let addresses: Vec<Address> = (0..bytes.below(20))
        .map(|_| Address::Socket(([192, 0, 2, bytes.u8()], bytes.u16()).into()))
        .collect();
    let hint = Hint {
        source,
        node: (what & 4 == 0).then_some(who),
        name: (what & 8 != 0).then(|| String::from_utf8_lossy(bytes.some()).into_owned()),
        federation: (what & 16 != 0).then(|| CAST.federation().prefix_hex()),
        addresses,
    };
    node.handle(Input::Hint(hint));
}

fn submit(node: &mut Node, bytes: &mut Bytes<'_>) {
    let (key, dry) = (bytes.u8(), bytes.one_in(4));
    let content = match bytes.u8() {
        0 => String::from_utf8_lossy(bytes.some()).into_owned(),
        number => thought(usize::from(number), "this node"),
    };
    let session = "main".parse().unwrap();
    let key = (key != 0).then(|| format!("key-{key}"));
    let submission = Submission { content, session, mode: Mode::Exploring, key };
    let ticket = node.ticket();
    node.handle(if dry {
        Input::DryRun { ticket, submission }
    } else {
        Input::Submit { ticket, submission }
    });
}

/// What an operator does.
fn operate(node: &mut Node, bytes: &mut Bytes<'_>) {
    let who = CAST.person(bytes.u8()).id();
    match bytes.u8() % 4 {
        0 => {
            let revocation = Revocation::sign(&CAST.ca, &CAST.federation(), who, node.now().wall);
            node.handle(Input::Revoke(revocation));
        }
        1 => node.handle(Input::Approve(who)),
        2 => {
            let ticket = node.ticket();
            node.handle(Input::Clear { ticket, author: who });
        }
        _ => {
            let addresses = (0..bytes.below(9)).map(|_| ([192, 0, 2, bytes.u8()], bytes.u16()).into());
            let addresses = addresses.collect();
            node.handle(Input::Addresses(addresses));
        }
    }
}
