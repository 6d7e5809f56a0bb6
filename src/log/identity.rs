//! Identities: a node is its Ed25519 key; what it signs, everybody can check against its id.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    encoding::AsBigEndian,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use zeroize::Zeroizing;

pub use super::{
    federation::FederationId,
    name::FederationName,
    work::{Nonce, Search, WorkFault, check_work, work_bits},
};

/// A node's Ed25519 public key: its only name that nobody else can take.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

/// A public key that no honest node has. Its sender could have seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A point of small order: one signature would fit many messages.
    #[error("the public key is weak (of small order)")]
    SmallOrder,
    /// A second encoding of a point: one key would be two nodes.
    #[error("the public key is not encoded canonically")]
    NonCanonical,
}

/// A text that is not a node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdFault {
    /// Not 52 characters.
    #[error("a node id has {} characters, not {chars}", NodeId::TEXT_CHARS)]
    Length {
        /// How many it has.
        chars: usize,
    },
    /// Not lower-case base32, or bits behind the key that are not zero.
    #[error("a node id is written in `a`–`z` and `2`–`7`, and ends in `a` or `q`")]
    Encoding,
    /// No key that a node may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
}

/// A signature that is not one of this node over these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not one of {node}")]
pub struct BadSignature {
    /// Whose it should be.
    pub node: NodeId,
}

impl NodeId {
    /// Characters of the text form: 256 bits at 5 bits each.
    pub const TEXT_CHARS: usize = 52;
    /// Characters of the short form.
    pub const SHORT_CHARS: usize = 8;

    /// Takes a key from outside: the door for every id that a peer or an author presents.
    ///
    /// Whether the bytes are a point of the curve at all is not asked: no signature verifies under a key that is not.
    ///
    /// # Errors
    /// The key is weak or not canonical.
    pub fn from_key(key: [u8; 32]) -> Result<Self, KeyFault> {
        let y = without_sign(key);
        if is_not_reduced(&y) {
            return Err(KeyFault::NonCanonical);
        }
        if SMALL_ORDER_Y.contains(&y) {
            return Err(KeyFault::SmallOrder);
        }
        Ok(Self(key))
    }

    /// Takes a key as it is: one from our own store, or one whose check comes later (`Segment::verify`).
    #[must_use]
    pub const fn from_stored(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Lower-case base32 without padding, 52 characters.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = BASE32_NOPAD.encode(&self.0);
        text.make_ascii_lowercase();
        text
    }

    /// The first 8 characters: 40 bits, enough to tell the nodes of a network apart by eye, not to trust them.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_text();
        text.truncate(Self::SHORT_CHARS);
        text
    }

    /// Checks a signature of this node. The same key and bytes give the same answer on every node: all use this library.
    ///
    /// # Errors
    /// It is not one.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(message, &signature.0).map_err(|_| BadSignature { node: *self })
    }
}

impl FromStr for NodeId {
    type Err = NodeIdFault;

    /// Exactly the text form, and no key that is weak.
    fn from_str(text: &str) -> Result<Self, NodeIdFault> {
        if text.len() != Self::TEXT_CHARS {
            return Err(NodeIdFault::Length { chars: text.chars().count() });
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NodeIdFault::Encoding);
        }
        let decoded = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes());
        let bytes = decoded.map_err(|_| NodeIdFault::Encoding)?;
        let key = <[u8; 32]>::try_from(bytes).map_err(|_| NodeIdFault::Encoding)?;
        Ok(Self::from_key(key)?)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_text())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.short())
    }
}

/// Clears the sign of x, the highest bit, and leaves y (RFC 8032, 5.1.2).
const fn without_sign(mut key: [u8; 32]) -> [u8; 32] {
    let [.., last] = &mut key;
    *last &= 0x7f;
    key
}

/// Whether y ≥ p = 2^255 − 19, which RFC 8032 (5.1.3, step 1) refuses and some libraries reduce instead.
/// Only 19 values are that large: all bits are ones but for the lowest byte.
fn is_not_reduced(y: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = y;
    *first >= 0xed && *last == 0x7f && middle.iter().all(|b| *b == 0xff)
}

/// The y of the eight points whose order divides 8, reduced. Both signs of x are meant: where x is 0, the set sign is one more
/// encoding that RFC 8032 (5.1.3, step 4) refuses. "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko 2020;
/// `ed25519-speccheck`) shows what comes of such keys: by its vectors 0 and 1 the library accepts signatures of them, and on
/// vector 11 libraries disagree.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    // Order 4: y = 0.
    [0; 32],
    // Order 1: y = 1, the neutral point.
    {
        let mut y = [0; 32];
        let [first, ..] = &mut y;
        *first = 1;
        y
    },
    // Order 2: y = −1.
    {
        let mut y = [0xff; 32];
        let [first, .., last] = &mut y;
        *first = 0xec;
        *last = 0x7f;
        y
    },
    // Order 8, two pairs.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

/// A node's key pair. It is held once, by the crypto library, which wipes it when it is dropped.
pub struct Identity {
    pair: Ed25519KeyPair,
    node_id: NodeId,
}

/// The crypto library did not take or give a key: a fault of this process, not of any peer. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the crypto library refuses this key")]
pub struct KeyRefused;

impl Identity {
    /// The identity of a saved seed.
    ///
    /// # Errors
    /// The crypto library refuses the seed; none that it refuses is known.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyRefused> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyRefused)?;
        let key = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| KeyRefused)?;
        let node_id = NodeId::from_key(key).map_err(|_| KeyRefused)?;
        Ok(Self { pair, node_id })
    }

    /// A new identity from 32 bytes of the operating system's randomness, used for nothing else.
    ///
    /// # Errors
    /// As [`Self::from_seed`].
    pub fn generate(random: [u8; 32]) -> Result<Self, KeyRefused> {
        Self::from_seed(&Zeroizing::new(random))
    }

    /// The public key.
    #[must_use]
    pub const fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The secret from which [`Self::from_seed`] makes this identity again: for the key file, and nothing else. It is wiped when it is
    /// dropped.
    ///
    /// # Errors
    /// The crypto library does not give it.
    pub fn seed(&self) -> Result<Zeroizing<[u8; 32]>, KeyRefused> {
        let seed = self.pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| KeyRefused)?;
        <[u8; 32]>::try_from(seed.as_ref()).map(Zeroizing::new).map_err(|_| KeyRefused)
    }

    /// The identity of a PKCS#8 document of an Ed25519 key (RFC 8410; with the public key, RFC 5958, or without).
    ///
    /// # Errors
    /// It is none, or its public key is not that of its private one.
    pub fn from_pkcs8_der(document: &[u8]) -> Result<Self, KeyRefused> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document).map_err(|_| KeyRefused)?;
        let key = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| KeyRefused)?;
        let node_id = NodeId::from_key(key).map_err(|_| KeyRefused)?;
        Ok(Self { pair, node_id })
    }

    /// The key pair as a PKCS#8 v1 document (RFC 8410), for the TLS library and the key file. It is wiped when it is dropped.
    ///
    /// # Errors
    /// The crypto library does not give it.
    pub fn pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyRefused> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyRefused)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Signs the bytes. Always the same bytes give the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut signature = [0; 64];
        // An Ed25519 signature has 64 bytes whatever the message, so the two lengths are equal.
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(signature)
    }
}

impl fmt::Debug for Identity {
    /// The node id; never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::from_seed(&[7; 32]).unwrap()
    }

    #[test]
    fn an_id_is_read_back_from_its_text_and_from_nothing_else() {
        let id = identity().node_id();
        let text = id.to_text();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.len(), NodeId::TEXT_CHARS);
        assert!(text.starts_with(&id.short()));

        assert_eq!(text.to_uppercase().parse::<NodeId>(), Err(NodeIdFault::Encoding));
        assert_eq!(format!("{text}a").parse::<NodeId>(), Err(NodeIdFault::Length { chars: 53 }));
        // The last character carries one bit of the key; another with the same bit would be a second text.
        let trailing = format!("{}b", &text[..51]);
        assert_eq!(trailing.parse::<NodeId>(), Err(NodeIdFault::Encoding));
        assert_eq!(format!("{}é", &text[..50]).parse::<NodeId>(), Err(NodeIdFault::Encoding));
        assert_eq!("a".repeat(52).parse::<NodeId>(), Err(NodeIdFault::Key(KeyFault::SmallOrder)));
    }

    #[test]
    fn debug_shows_who_it_is_and_never_the_key() {
        let identity = identity();
        let shown = format!("{identity:?}");
        assert!(shown.contains(&identity.node_id().short()));
        assert!(!shown.contains(&HEXLOWER.encode(&[7; 4])));
        assert!(!shown.contains("7, 7"));
    }

    #[test]
    fn the_saved_seed_makes_the_same_identity_again() {
        let identity = Identity::generate([9; 32]).unwrap();
        let again = Identity::from_seed(&identity.seed().unwrap()).unwrap();
        assert_eq!(again.node_id(), identity.node_id());
        assert_eq!(again.sign(b"x"), identity.sign(b"x"));
    }

    #[test]
    fn the_tls_library_and_the_certificate_library_take_the_key() {
        let der = identity().pkcs8_der().unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(&der[..]);
        rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&key).unwrap();
        let pair = rcgen::KeyPair::try_from(&key).unwrap();
        assert_eq!(rcgen::PublicKeyData::der_bytes(&pair), identity().node_id().as_bytes());
    }

    #[test]
    fn a_signature_fits_its_signer_and_its_bytes_alone() {
        let (one, other) = (identity(), Identity::from_seed(&[8; 32]).unwrap());
        let signature = one.sign(b"thought");
        assert_eq!(one.node_id().verify(b"thought", &signature), Ok(()));
        let bad = |node| Err(BadSignature { node });
        assert_eq!(one.node_id().verify(b"Thought", &signature), bad(one.node_id()));
        assert_eq!(other.node_id().verify(b"thought", &signature), bad(other.node_id()));
    }
}
