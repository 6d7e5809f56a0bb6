//! Bounded: byte strings and lists that are never longer than they may be, whatever a frame claims.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

use super::WireFault;

/// At most `MAX` bytes, borrowed from their frame.
pub(super) struct Blob<'a, const MAX: usize>(pub(super) &'a [u8]);

impl<'a, const MAX: usize> Blob<'a, MAX> {
    pub(super) const fn new(bytes: &'a [u8]) -> Result<Self, WireFault> {
        if bytes.len() > MAX {
            return Err(WireFault::TooLarge { bytes: bytes.len() });
        }
        Ok(Self(bytes))
    }
}

impl<const MAX: usize> Serialize for Blob<'_, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Blob<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&'de [u8]>::deserialize(deserializer)?;
        Self::new(bytes).map_err(de::Error::custom)
    }
}

/// At most `MAX` elements.
pub(super) struct Bounded<T, const MAX: usize>(pub(super) Vec<T>);

impl<T, const MAX: usize> Bounded<T, MAX> {
    pub(super) fn new(list: Vec<T>) -> Result<Self, WireFault> {
        if list.len() > MAX {
            return Err(WireFault::Malformed("a list with more elements than it may have"));
        }
        Ok(Self(list))
    }
}

impl<T: Serialize, const MAX: usize> Serialize for Bounded<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        // The claimed length decides only that there are too many; room is made for what really comes.
        if elements.size_hint().is_some_and(|claimed| claimed > MAX) {
            return Err(de::Error::invalid_length(MAX, &self));
        }
        let mut list = vec![];
        while let Some(element) = elements.next_element()? {
            list.push(element);
            if list.len() > MAX {
                return Err(de::Error::invalid_length(MAX, &self));
            }
        }
        Ok(Bounded(list))
    }
}
