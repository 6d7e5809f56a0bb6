//! Hello: how two nodes introduce themselves, and why one of them may refuse the other.
//! Source: protocol.md, Connections and Verification.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::{
    frame::{Hello, Instance, PROTOCOL_VERSION, SignedRecord},
    input::Now,
    refusal::{Refusal, RefusalCode},
};
use crate::{
    ledger::policy::Policy,
    log::{
        CaHash, CaKey, Claim, FederationId, FederationName, Identity, NodeId, NodeName, NodeRecord, Nonce,
        Revocation, identity::check_work,
    },
};

/// What a node knows of itself before it meets anyone.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its key.
    pub identity: Arc<Identity>,
    /// Its federation's id.
    pub federation: FederationId,
    /// Its federation's name.
    pub federation_name: FederationName,
    /// What makes it a closed one.
    pub closed: Option<Closed>,
    /// Its federation's rules.
    pub policy: Policy,
    /// What it is called.
    pub name: NodeName,
    /// What it claims to be.
    pub claim: Claim,
    /// Its proof of work.
    pub nonce: Nonce,
    /// This process.
    pub instance: Instance,
    /// Where it listens, for its node record; at most eight.
    pub addresses: Vec<SocketAddr>,
    /// Most links at a time.
    pub peers_max: usize,
    /// The only nodes that it is linked with; `None`: with any.
    pub pinned: Option<Vec<NodeId>>,
}

/// What a member knows of its closed federation.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The hash of the CA's key.
    pub ca: CaHash,
    /// The CA's key, where it is one that can revoke.
    pub key: Option<CaKey>,
    /// Who was revoked, as it was kept.
    pub revoked: Vec<Revocation>,
}

impl Setup {
    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// Introduces this node over the connection with that TLS exporter.
    #[must_use]
    pub fn hello(&self, now: Now, exporter: &[u8; 32]) -> Hello {
        let SignedRecord { record, signature: record_signature } = self.signed_record(now);
        Hello {
            version: PROTOCOL_VERSION,
            federation: self.federation,
            policy: self.policy.to_bytes(),
            record_signature,
            record,
            claim_signature: self.claim.sign(&self.identity, exporter),
            claim: self.claim.clone(),
            instance: self.instance,
            nonce: self.nonce,
            clock: now.wall,
        }
    }

    /// This node's own record as it is now.
    #[must_use]
    pub fn signed_record(&self, now: Now) -> SignedRecord {
        let record = NodeRecord::of_first(self.id(), self.name.clone(), self.addresses.clone(), now.wall);
        SignedRecord { signature: record.sign(&self.identity), record }
    }

    /// Checks the introduction of the node whose key TLS has proved, the cheapest first.
    ///
    /// # Errors
    /// The refusal that both sides show.
    pub fn check(&self, node: NodeId, hello: &Hello, exporter: &[u8; 32]) -> Result<(), Refusal> {
        if hello.version != PROTOCOL_VERSION {
            let about = self.both(hello, "version", hello.version, PROTOCOL_VERSION);
            return Err(Refusal::about(RefusalCode::Version, about));
        }
        if hello.federation != self.federation {
            return Err(self.other_federation(hello));
        }
        check_work(&self.federation, &node, hello.nonce, self.policy.pow_bits)
            .map_err(|fault| Refusal::about(RefusalCode::ProofOfWork, fault))?;
        let record_holds = hello.record.id() == node && hello.record.verify(&hello.record_signature).is_ok();
        if !record_holds {
            return Err(Refusal::about(RefusalCode::BadClaim, "node record"));
        }
        // Signed over the exporter, so that nobody can pass another connection's claim on.
        hello
            .claim
            .verify(&node, exporter, &hello.claim_signature)
            .map_err(|_| Refusal::about(RefusalCode::BadClaim, "hardware claim"))
    }

    /// Names what differs: with our name and their rules their id would come out, if only the rules differ.
    fn other_federation(&self, hello: &Hello) -> Refusal {
        let other = || {
            let (theirs, ours) = (hello.federation.prefix_hex(), self.federation.prefix_hex());
            Refusal::about(RefusalCode::WrongFederation, self.both(hello, "federation", theirs, ours))
        };
        let Ok(policy) = Policy::from_bytes(&hello.policy) else {
            return other();
        };
        let ca = self.closed.as_ref().map(|closed| &closed.ca.0);
        if FederationId::new(&self.federation_name, &policy, ca) != hello.federation {
            return other();
        }
        match self.policy.first_difference(&policy) {
            Some(difference) => Refusal::about(
                RefusalCode::PolicyDiffers,
                self.both(hello, difference.field, difference.theirs, difference.ours),
            ),
            None => other(),
        }
    }

    /// Says a value of both nodes by their names: "here" and "there" would be wrong on one of the two ends.
    fn both(&self, hello: &Hello, what: &str, theirs: impl fmt::Display, ours: impl fmt::Display) -> String {
        format!("`{what}` is {theirs} on {}, {ours} on {}", hello.record.name(), self.name)
    }
}

#[cfg(test)]
impl Setup {
    /// A node for tests beside the code, that listens there.
    pub(super) fn of_test(addresses: &[&str]) -> Self {
        use crate::{ledger::types::Level, log::Hardware};

        let (federation_name, policy) = ("lan".parse().unwrap(), Policy::default());
        Self {
            identity: Identity::from_seed(&[255; 32]).unwrap().into(),
            federation: FederationId::new(&federation_name, &policy, None),
            federation_name,
            closed: None,
            policy,
            name: "legion".parse().unwrap(),
            claim: Claim { hardware: Hardware::Software, level: Level::MAX, arch: "x86_64".parse().unwrap() },
            nonce: Nonce(0),
            instance: Instance(0),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            peers_max: 64,
            pinned: None,
        }
    }
}
