//! What the API sends and takes, field for field as users' scripts rely on it. Add fields, never rename them.
//! Ids are base32, hashes and digests hex, amounts micro-ATP, ratios parts per million.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What a node is and knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node itself.
    pub node: Node,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Where its local API is on TCP, if it is.
    pub api: Option<String>,
    /// How many connections are open: one for each verified peer, and for a moment those that are being admitted.
    pub connections: usize,
    /// Whether it may write.
    pub own_log: OwnLog,
    /// How much it keeps.
    pub corpus: Corpus,
    /// Whom it is linked with or has heard of.
    pub peers: Vec<Peer>,
    /// Whose logs it holds.
    pub authors: Vec<Author>,
    /// How often what happened since it started.
    pub counters: BTreeMap<String, u64>,
    /// What a person should look at.
    pub alerts: Vec<Alert>,
}

/// Which node may be linked from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// Its id, or the first 16 or more characters of one that waits.
    pub node: String,
}

/// It may be linked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovedPeer {
    /// Its id.
    pub id: String,
}

/// Whether a node may write into its own log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnLog {
    /// `open`, `waiting` (it gets its own log back from its peers first), `read_only` (too little room on the disk), or `halted`.
    pub state: String,
    /// Why it may not write, and what to do.
    pub why: Option<String>,
}

/// How much a node keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Corpus {
    /// Accepted thoughts whose contents are kept.
    pub thoughts: u64,
    /// Bytes of all contents that are kept.
    pub bytes: u64,
    /// Entries and contents that it lacks and asks its peers for.
    pub missing: u64,
}

/// What a node says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The hardware that it claims.
    pub hardware: String,
    /// The level that it claims.
    pub level: u8,
    /// Its processor's architecture.
    pub arch: String,
    /// Its program's version.
    pub version: String,
    /// How long it has been running, in seconds.
    pub uptime_s: u64,
    /// SHA-256 of the certificate that it shows now, in lower-case hex.
    pub certificate_fingerprint: String,
    /// When that expires: milliseconds since the Unix epoch.
    pub certificate_expires_ms: u64,
    /// Its federation.
    pub federation: Federation,
}

/// A federation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Federation {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether only members may join.
    pub closed: bool,
}

/// A node that this one is linked with (`verified`) or has only heard of (then `reason` says why it is not linked).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Peer {
    /// Its id, where known.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// The link's other end, or where it may be reached.
    pub address: Option<String>,
    /// Whether it is linked and proved who it is.
    pub verified: bool,
    /// How it was verified.
    pub method: Option<String>,
    /// Round-trip time in microseconds.
    pub rtt_us: Option<u64>,
    /// How long ago it was admitted, in seconds.
    pub connected_s: Option<u64>,
    /// Bytes sent to it over this link.
    pub bytes_sent: Option<u64>,
    /// Bytes received from it over this link.
    pub bytes_received: Option<u64>,
    /// The hardware that it claims.
    pub hardware: Option<String>,
    /// The level that it claims.
    pub level: Option<u8>,
    /// The architecture that it claims.
    pub arch: Option<String>,
    /// Whether this node dialled it.
    pub dialled: Option<bool>,
    /// How far its clock is ahead of this node's, in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// How it became known.
    pub sources: Vec<String>,
    /// Why it is not linked.
    pub reason: Option<String>,
    /// How things stand in one word: `linked`, or the code of the reason.
    #[serde(default)]
    pub state: String,
    /// What a person can do about it.
    #[serde(default)]
    pub remedy: Option<String>,
    /// Seconds until it is tried again at the earliest, or is taken in again.
    #[serde(default)]
    pub retry_s: Option<u64>,
    /// Everywhere that it may be reached.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// How far its logs go, as it said itself, against this node's; absent where it is not linked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}

/// How far a peer's logs go, as it said itself, against this node's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Entries that it holds and this node lacks.
    pub missing_here: u64,
    /// Entries that it has not said that it holds, and this node does.
    pub missing_there: u64,
    /// Since when nothing is missing on either side.
    pub identical_since_ms: Option<u64>,
    /// The last entry of each author that it has said that it holds.
    pub acknowledged: Vec<Acknowledged>,
}

/// How far a peer says that it holds an author's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The author's id.
    pub author: String,
    /// The last entry.
    pub seq: u64,
}

/// An author, and what its log has come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Author {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its last entry's place.
    pub seq: u64,
    /// Its last entry's hash.
    pub hash: String,
    /// What it has.
    pub balance_uatp: i64,
    /// How far it is trusted.
    pub trust_ppm: u32,
    /// How much its thoughts count.
    pub weight_ppm: u32,
    /// Its accepted thoughts.
    pub accepted: u64,
    /// Its rejected thoughts.
    pub rejected: u64,
    /// Entries before this time are inadmissible; 0 where it never was frozen.
    pub frozen_until_ms: u64,
    /// The digest of its account.
    pub digest: String,
    /// `ok`, `forked`, `frozen` or `behind`.
    pub state: String,
    /// Why and where its log was cut off, where it was; also where an operator cleared that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<AuthorFault>,
    /// The hardware that it claims.
    pub hardware: String,
    /// The level that it claims.
    pub level: u8,
    /// The architecture that it claims.
    pub arch: String,
}

/// Why and where an author's log was cut off.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthorFault {
    /// `fork` or `false_header`.
    pub kind: String,
    /// The first entry at fault: the log ends before it.
    pub seq: u64,
    /// The hashes of the two entries there; of a false header, its hash and that of its content.
    pub hashes: [String; 2],
    /// When this node learnt of it.
    pub found_ms: u64,
    /// Whether an operator takes the log again.
    pub cleared: bool,
}

/// What is asked of `POST /v1/authors/clear`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// The author: an id, the start of one, or a name.
    pub author: String,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cleared {
    /// The author's id.
    pub id: String,
    /// Whether it was convicted: where it was not, nothing changed.
    pub was_convicted: bool,
}

/// Something that a person should look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alert {
    /// What kind.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// When it was first seen.
    pub since_ms: u64,
    /// How often it was seen.
    pub count: u64,
}

/// The balances of the federation in a few numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Economics {
    /// Their sum.
    pub total_uatp: i64,
    /// Their mean.
    pub mean_uatp: i64,
    /// The least.
    pub min_uatp: i64,
    /// The most.
    pub max_uatp: i64,
    /// How unequal they are.
    pub gini_ppm: u32,
    /// How many authors.
    pub nodes: usize,
    /// Each author's.
    pub balances: Vec<Balance>,
    /// Thoughts a minute that earned something, in millionths: over the node's uptime, at least a minute and at most an hour.
    pub rewards_per_min_ppm: u64,
    /// Thoughts a minute that cost something in that time, in millionths.
    pub penalties_per_min_ppm: u64,
}

/// What one author has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Balance {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it has.
    pub balance_uatp: i64,
}

/// An accepted thought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Thought {
    /// Whose.
    pub author: String,
    /// Its author's name.
    pub name: String,
    /// Its place in its author's log.
    pub seq: u64,
    /// When its author wrote it.
    pub time_ms: u64,
    /// Its session.
    pub session: String,
    /// Its mode.
    pub mode: String,
    /// Its text.
    pub content: String,
    /// Its coherence.
    pub coherence_ppm: u32,
    /// Its author's trust weight after it.
    pub weight_ppm: u32,
    /// What it earned.
    pub reward_uatp: i64,
    /// Coherence times weight: what it is worth beyond its reward, in parts per million.
    pub economic_value_ppm: u32,
    /// When this node got it.
    pub received_ms: u64,
}

/// The accepted thoughts with one session name, in a few numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub session: String,
    /// How many thoughts.
    pub thoughts: u64,
    /// Ids of those who took part.
    pub participants: Vec<String>,
    /// How many thoughts of each mode.
    pub modes: BTreeMap<String, u64>,
    /// How many thoughts from each kind of hardware.
    pub hardware: BTreeMap<String, u64>,
    /// The trust-weighted mean of their coherence.
    pub collective_coherence_ppm: u32,
}

/// A thought to publish.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// Its text.
    pub content: String,
    /// Its session; `main` where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Its mode; `exploring` where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// A repetition with the same key gets the first answer and records nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether only the verdict is wanted; nothing is recorded then.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a submission.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submitted {
    /// `accepted`, `rejected` or `inadmissible`.
    pub verdict: String,
    /// What it was rejected for: `rate_limit`, `spam` or `quality`.
    pub layer: Option<String>,
    /// Its place in the log; of the last entry where it is inadmissible.
    pub seq: u64,
    /// Its coherence; nothing where it is inadmissible.
    pub coherence_ppm: Option<u32>,
    /// What it earned or cost.
    pub delta_uatp: i64,
    /// The balance after it.
    pub balance_uatp: i64,
    /// The trust after it.
    pub trust_ppm: u32,
    /// Why, in a sentence.
    pub reason: String,
    /// How many peers it was sent to at once.
    pub peers_sent: u32,
    /// Whether it stands in the log: not after a dry run, nor where it is inadmissible.
    pub recorded: bool,
    /// From when on the same thought would be admissible, where there is such a time.
    pub admissible_from_ms: Option<u64>,
}

/// Why a thought got its verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// Whose.
    pub author: String,
    /// Its author's name.
    pub name: String,
    /// Its place in its author's log.
    pub seq: u64,
    /// When its author wrote it.
    pub time_ms: u64,
    /// Its session.
    pub session: String,
    /// Its mode.
    pub mode: String,
    /// `accepted` or `rejected`.
    pub verdict: String,
    /// What it was rejected for.
    pub layer: Option<String>,
    /// Its coherence.
    pub coherence_ppm: u32,
    /// What it earned or cost.
    pub delta_uatp: i64,
    /// The balance after it.
    pub balance_uatp: i64,
    /// The trust after it.
    pub trust_ppm: u32,
    /// The trust weight after it.
    pub weight_ppm: u32,
    /// What each of the nine layers had to do with it.
    pub layers: Vec<Layer>,
}

/// What one layer had to do with one thought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// Its number, 1 to 9.
    pub number: u8,
    /// Its name.
    pub layer: String,
    /// What it looked at; the names say in which units.
    pub inputs: BTreeMap<String, i64>,
    /// What it measured that against.
    pub threshold: Option<i64>,
    /// `passed`, `rejected`, `not_asked` or `informed`.
    pub outcome: String,
    /// The ATP that it changed.
    pub delta_uatp: i64,
    /// The trust that it changed.
    pub delta_trust_ppm: i64,
    /// For people.
    pub sentence: String,
}

/// `GET /v1/peers`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peers {
    /// All of them.
    pub peers: Vec<Peer>,
}

/// `GET /v1/authors`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Authors {
    /// All of them.
    pub authors: Vec<Author>,
}

/// `GET /v1/alerts`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alerts {
    /// All of them, the oldest first.
    pub alerts: Vec<Alert>,
}

/// `GET /v1/thoughts`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Thoughts {
    /// Those asked for, the oldest first.
    pub thoughts: Vec<Thought>,
}

/// `GET /v1/sessions`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sessions {
    /// All of them, by name.
    pub sessions: Vec<Session>,
}

/// What every route answers where it can't do what was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorText,
}

/// An error for programs (`code`) and for people (`message`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorText {
    /// Stable; what programs look at.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// What is asked of `POST /v1/invitations`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// How long the ticket is good, in milliseconds; a day where it is missing.
    pub lifetime_ms: Option<u64>,
    /// What opens the CA's key, where it is locked.
    pub passphrase: Option<Zeroizing<String>>,
}

impl fmt::Debug for Invite {
    /// Without the passphrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite").field("lifetime_ms", &self.lifetime_ms).finish_non_exhaustive()
    }
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invited {
    /// The ticket: whoever has it may come in, once.
    pub ticket: String,
    /// What it is called in lists.
    pub name: String,
    /// Until when it is good.
    pub expires_ms: u64,
}

/// `GET /v1/invitations`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitations {
    /// Those that could still be used.
    pub invitations: Vec<Invitation>,
}

/// A ticket that could still be used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// What it is called.
    pub name: String,
    /// Until when it is good.
    pub expires_ms: u64,
}

/// What is asked of `POST /v1/members/revoke`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Who: an id, the start of one, or a name.
    pub member: String,
    /// What opens the CA's key, where it is locked.
    pub passphrase: Option<Zeroizing<String>>,
}

impl fmt::Debug for Revoke {
    /// Without the passphrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoke").field("member", &self.member).finish_non_exhaustive()
    }
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revoked {
    /// Who is a member no more.
    pub id: String,
}

/// What is asked of `POST /v1/invitations/cancel`, and what it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// What the ticket is called.
    pub name: String,
}

/// `GET /v1/members`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Members {
    /// Who belongs to the federation, as far as this node knows.
    pub members: Vec<Member>,
}

/// Somebody who belongs to the federation, or may.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its id; null for an invitation.
    pub id: Option<String>,
    /// Its name, or that of its ticket.
    pub name: String,
    /// Until when its certificate counts, where this node knows.
    pub certificate_expires_ms: Option<u64>,
    /// `member`, `invited` or `revoked`.
    pub state: String,
}
