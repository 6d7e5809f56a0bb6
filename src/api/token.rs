//! The token that writing over TCP needs: made at the first start, in a file of mode 0600, so that only who may read the data directory has it.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::socket::ApiError;
use crate::node::identity_file;

/// The token's file in the data directory.
pub const TOKEN_FILE: &str = "api.token";
/// Bytes of randomness in it.
const TOKEN_BYTES: usize = 32;

/// A secret; it is never shown.
pub(super) struct ApiToken(Zeroizing<String>);

impl ApiToken {
    /// The one in that data directory; `None` where there is none yet.
    fn load(data_dir: &Path) -> Result<Option<Self>, ApiError> {
        let path = data_dir.join(TOKEN_FILE);
        let io = |source| ApiError::Token { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let mode = fs::metadata(&path).map_err(io)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(ApiError::TokenPermissions { path, mode });
                }
                let token = Zeroizing::new(text.trim_end().to_owned());
                let upper = Zeroizing::new(token.to_ascii_uppercase());
                let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map(Zeroizing::new);
                match bytes.is_ok_and(|bytes| bytes.len() == TOKEN_BYTES) {
                    true => Ok(Some(Self(token))),
                    false => Err(ApiError::TokenDamaged { path }),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(ApiError::TokenDamaged { path }),
            Err(error) => Err(io(error)),
        }
    }

    /// The one in that data directory, made where there is none yet.
    pub(super) fn of(data_dir: &Path) -> Result<Self, ApiError> {
        if let Some(token) = Self::load(data_dir)? {
            return Ok(token);
        }
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        rand::fill(&mut *bytes).map_err(|_| ApiError::Randomness)?;
        let token = Zeroizing::new(BASE32_NOPAD.encode(&*bytes).to_ascii_lowercase());
        let line = Zeroizing::new(format!("{}\n", *token));
        identity_file::write(data_dir, TOKEN_FILE, line.as_bytes())
            .map_err(|source| ApiError::Token { path: data_dir.join(TOKEN_FILE), source })?;
        Ok(Self(token))
    }

    /// Whether that is it. Takes the same time wherever they differ.
    pub(super) fn is(&self, other: &str) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), other.as_bytes()).is_ok()
    }
}

/// Whether that data directory has a token that can be used; false where it has none yet.
///
/// # Errors
/// Others may read it, it is none, or it can't be read.
pub fn is_there(data_dir: &Path) -> Result<bool, ApiError> {
    ApiToken::load(data_dir).map(|token| token.is_some())
}

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiToken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_is_its_owners_alone_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let token = ApiToken::of(dir.path()).unwrap();
        let path = dir.path().join(TOKEN_FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.len(), fs::metadata(&path).unwrap().permissions().mode() & 0o777), (53, 0o600));
        assert!(token.is(text.trim()) && ApiToken::of(dir.path()).unwrap().is(text.trim()));
        assert!(!token.is("") && !token.is(&text[..51]) && !token.is(&text.to_uppercase()));
        assert_eq!(format!("{token:?}"), "ApiToken");
    }

    #[test]
    fn one_that_others_may_read_and_one_that_is_none_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(ApiToken::of(dir.path()).unwrap());
        let path = dir.path().join(TOKEN_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(ApiToken::of(dir.path()), Err(ApiError::TokenPermissions { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for damaged in [&b""[..], b"secret\n", b"\xff\xff"] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(ApiToken::of(dir.path()), Err(ApiError::TokenDamaged { .. })));
        }
    }
}
