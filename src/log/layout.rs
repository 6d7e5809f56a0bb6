//! Layouts: hashed and signed bytes are written by hand and read strictly, so that no value has two encodings.

use aws_lc_rs::digest::{Context, SHA256};

/// Reads a layout from its first byte to its last; [`Reader::finish`] refuses what is left over.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// Bytes that are longer or shorter than their layout. Whoever sent them could have seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFault {
    /// The bytes end before the layout does.
    #[error("{missing} bytes are missing")]
    Short {
        /// How many bytes the unfinished field lacks.
        missing: usize,
    },
    /// The layout ends before the bytes do.
    #[error("{bytes} bytes are left over")]
    LeftOver {
        /// How many.
        bytes: usize,
    },
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], LayoutFault> {
        let missing = N.saturating_sub(self.rest.len());
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(LayoutFault::Short { missing })?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn u8(&mut self) -> Result<u8, LayoutFault> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, LayoutFault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, LayoutFault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, LayoutFault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text or list of bytes with its length before it as a u8.
    pub(super) fn short(&mut self) -> Result<&'a [u8], LayoutFault> {
        let bytes = usize::from(self.u8()?);
        self.take(bytes)
    }

    /// The next so many bytes.
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], LayoutFault> {
        let missing = bytes.saturating_sub(self.rest.len());
        let (field, rest) = self.rest.split_at_checked(bytes).ok_or(LayoutFault::Short { missing })?;
        self.rest = rest;
        Ok(field)
    }

    pub(super) const fn finish(self) -> Result<(), LayoutFault> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(LayoutFault::LeftOver { bytes }),
        }
    }
}

/// Appends a validated name with its length before it. Names are at most 64 bytes long (`name.rs`), so a u8 holds it.
pub(super) fn put_short(out: &mut Vec<u8>, name: &str) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

/// The SHA-256 of the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    // SHA-256 gives 32 bytes on every input, so the two lengths are equal.
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_too_few_or_too_many_is_refused() {
        let mut short = Reader::new(&[1, 2, 3]);
        assert_eq!(short.u32(), Err(LayoutFault::Short { missing: 1 }));

        let mut text = Reader::new(&[4, b'a', b'b']);
        assert_eq!(text.short(), Err(LayoutFault::Short { missing: 2 }));

        let mut long = Reader::new(&[1, 2, 3]);
        assert_eq!(long.u16(), Ok(0x0201));
        assert_eq!(long.finish(), Err(LayoutFault::LeftOver { bytes: 1 }));
    }
}
