//! Names: the four short texts of the protocol, valid by construction and cheap to clone.

use std::{fmt, str::FromStr, sync::Arc};

/// A text that may not be what it was meant as. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Too short or too long.
    #[error("{what} is {bytes_min} to {bytes_max} bytes long, not {bytes}")]
    Length {
        /// What the text was meant as: "a node name".
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The shortest that is allowed.
        bytes_min: usize,
        /// The longest that is allowed.
        bytes_max: usize,
    },
    /// A character that does not belong there.
    #[error("{what} may not contain {found:?}")]
    Character {
        /// What the text was meant as.
        what: &'static str,
        /// The first such character.
        found: char,
    },
    /// Bytes that are not UTF-8.
    #[error("{what} is not UTF-8")]
    Utf8 {
        /// What the text was meant as.
        what: &'static str,
    },
}

/// What a kind of name allows.
struct Rule {
    what: &'static str,
    bytes_min: usize,
    bytes_max: usize,
    allows: fn(char) -> bool,
}

impl Rule {
    fn check(&self, text: &str) -> Result<(), NameFault> {
        let Self { what, bytes_min, bytes_max, allows } = *self;
        let bytes = text.len();
        if !(bytes_min..=bytes_max).contains(&bytes) {
            return Err(NameFault::Length { what, bytes, bytes_min, bytes_max });
        }
        match text.chars().find(|&c| !allows(c)) {
            Some(found) => Err(NameFault::Character { what, found }),
            None => Ok(()),
        }
    }
}

/// One macro for the four, because they differ in nothing but their rule.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            const RULE: Rule = $rule;
            /// The longest, in bytes.
            pub const BYTES_MAX: usize = Self::RULE.bytes_max;

            /// Takes the text where it keeps the rule.
            ///
            /// # Errors
            /// The length or the first character that breaks it.
            pub fn new(text: &str) -> Result<Self, NameFault> {
                Self::RULE.check(text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = NameFault;

            fn try_from(bytes: &[u8]) -> Result<Self, NameFault> {
                let utf8 = str::from_utf8(bytes).map_err(|_| NameFault::Utf8 { what: Self::RULE.what })?;
                Self::new(utf8)
            }
        }

        impl FromStr for $name {
            type Err = NameFault;

            fn from_str(text: &str) -> Result<Self, NameFault> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// What a node calls itself: 1 to 32 of `a`–`z`, `0`–`9` and `-`. Not unique: two nodes may claim one name.
    NodeName,
    Rule {
        what: "a node name",
        bytes_min: 1,
        bytes_max: 32,
        allows: |c| matches!(c, 'a'..='z' | '0'..='9' | '-'),
    }
);

name!(
    /// What a federation is called: 1 to 64 bytes of UTF-8 without control characters.
    FederationName,
    Rule { what: "a federation name", bytes_min: 1, bytes_max: 64, allows: is_printable }
);

impl FederationName {
    /// That of a node that names none.
    #[must_use]
    pub fn lan() -> Self {
        Self("lan".into())
    }
}

name!(
    /// The session that a thought belongs to: 1 to 64 bytes of UTF-8 without control characters.
    SessionName,
    Rule { what: "a session name", bytes_min: 1, bytes_max: 64, allows: is_printable }
);

name!(
    /// A processor architecture as its node names it: at most 32 ASCII letters, digits and `_`; may be empty.
    Architecture,
    Rule {
        what: "an architecture",
        bytes_min: 0,
        bytes_max: 32,
        allows: |c| c.is_ascii_alphanumeric() || c == '_',
    }
);

impl Architecture {
    /// An architecture of that name, without the characters that the rule does not allow; nothing where none is left.
    #[must_use]
    pub fn from_target(target: &str) -> Self {
        let allowed = |character: &char| character.is_ascii_alphanumeric() || *character == '_';
        let text: String = target.chars().filter(allowed).take(Self::BYTES_MAX).collect();
        Self(text.into())
    }
}

impl NodeName {
    /// A valid name for a machine, whatever its host name: letters are lowered, anything else that is not allowed
    /// becomes `-`, the rest is cut, and where nothing is left it is `node`.
    #[must_use]
    pub fn from_host(host: &str) -> Self {
        let allowed = |c: char| if (Self::RULE.allows)(c) { c } else { '-' };
        let dashed: String = host.chars().map(|c| allowed(c.to_ascii_lowercase())).collect();
        let cut: String = dashed.trim_start_matches('-').chars().take(Self::BYTES_MAX).collect();
        match cut.trim_end_matches('-') {
            "" => Self("node".into()),
            name => Self(name.into()),
        }
    }
}

/// The control characters are written out, and not taken from a library, because every node must draw the same line.
const fn is_printable(c: char) -> bool {
    !matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_at_its_bounds_is_taken_and_one_past_them_refused() {
        assert!(NodeName::new(&"a".repeat(32)).is_ok());
        assert_eq!(
            NodeName::new(&"a".repeat(33)),
            Err(NameFault::Length { what: "a node name", bytes: 33, bytes_min: 1, bytes_max: 32 })
        );
        assert!(NodeName::new("").is_err());
        assert!(SessionName::new(&"意".repeat(21)).is_ok());
        assert!(SessionName::new(&"意".repeat(22)).is_err(), "66 bytes");
        assert!(Architecture::new("").is_ok());
        assert!(Architecture::new("x86-64").is_err());
    }

    #[test]
    fn control_characters_and_broken_text_are_refused() {
        for bad in ['\0', '\n', '\x1b', '\x7f', '\u{85}', '\u{9f}'] {
            let found = FederationName::new(&format!("a{bad}"));
            assert_eq!(found, Err(NameFault::Character { what: "a federation name", found: bad }));
        }
        assert!(FederationName::new("Werkstatt \u{a0}2").is_ok());
        assert_eq!(SessionName::try_from(&[0xff][..]), Err(NameFault::Utf8 { what: "a session name" }));
    }

    #[test]
    fn any_host_name_gives_a_valid_node_name() {
        let cases = [
            ("Legion", "legion"),
            ("thor.local", "thor-local"),
            ("Büro_PC", "b-ro-pc"),
            ("意識", "node"),
            ("", "node"),
            ("--", "node"),
        ];
        for (host, name) in cases {
            assert_eq!(NodeName::from_host(host).as_str(), name);
        }
        let long = NodeName::from_host(&format!("{}-{}", "a".repeat(31), "b".repeat(9)));
        assert_eq!(long.as_str(), "a".repeat(31), "no dash is left at the cut");
    }
}
