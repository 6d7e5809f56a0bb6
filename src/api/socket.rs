//! The Unix socket in the data directory: full rights for whoever owns the directory, nothing for anyone else.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::limited::Limited;

/// The socket's name in the data directory.
pub const SOCKET_FILE: &str = "api.sock";
/// Longest path of a Unix socket: the kernel keeps 108 bytes, one of them for the end.
pub const PATH_BYTES_MAX: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Connections at a time; further ones wait. Each holds a few tens of KiB.
const CONNECTIONS_MAX: usize = 128;

/// Why there is no socket. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kernel takes no path of that length.
    #[error("the path of the local socket `{}` has {bytes} bytes, and a socket's path has at most {PATH_BYTES_MAX}; use a shorter `--data-dir`", path.display())]
    PathTooLong {
        /// Which.
        path: PathBuf,
        /// How long.
        bytes: usize,
    },
    /// Something else has the socket's name.
    #[error("`{}` is no socket; move it away", path.display())]
    NotASocket {
        /// Which.
        path: PathBuf,
    },
    /// It can't be made.
    #[error("can't make the local socket `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address that was asked for can't be had.
    #[error("can't listen for the local API on {address}")]
    Tcp {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read the token.
    #[error("`{}` has mode {mode:03o}: others than its owner may read it; run `chmod 600 {}`, or delete it and start again for a new token", path.display(), path.display())]
    TokenPermissions {
        /// The token's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is none.
    #[error("`{}` holds no token; delete it and start again for a new one", path.display())]
    TokenDamaged {
        /// The token's file.
        path: PathBuf,
    },
    /// It can't be read or made.
    #[error("can't use the token's file `{}`", path.display())]
    Token {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No token can be made.
    #[error("the system gives no randomness for a token")]
    Randomness,
}

/// The path of the socket of that data directory.
///
/// # Errors
/// Where the kernel takes no path of that length.
pub fn path_in(data_dir: &Path) -> Result<PathBuf, ApiError> {
    let path = data_dir.join(SOCKET_FILE);
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > PATH_BYTES_MAX { Err(ApiError::PathTooLong { path, bytes }) } else { Ok(path) }
}

/// Makes the socket with mode 0600. The caller holds the data directory's lock, so a socket that is there already was
/// left by a process that is dead.
pub(super) fn bind(path: &Path) -> Result<Limited<UnixListener>, ApiError> {
    let io = |source| ApiError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(left) if left.file_type().is_socket() => fs::remove_file(path).map_err(io)?,
        Ok(_) => {
            return Err(ApiError::NotASocket { path: path.to_owned() });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let listener = listen(path).map_err(io)?;
    Ok(Limited::new(listener, CONNECTIONS_MAX))
}

/// The mode is set between bind and listen: nobody can connect before it is.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_takes_the_place_of_a_dead_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_in(dir.path()).unwrap();
        drop(bind(&path).unwrap());
        assert!(path.exists(), "a process that dies leaves its socket");
        let _again = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_of_that_name_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET_FILE);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(ApiError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_the_kernel_would_cut_is_refused_with_its_length() {
        let dir = Path::new("/").join("d".repeat(PATH_BYTES_MAX - 1 - 1 - SOCKET_FILE.len()));
        assert!(path_in(&dir).is_ok());
        let longer = Path::new("/").join("d".repeat(PATH_BYTES_MAX));
        let error = path_in(&longer).unwrap_err();
        assert!(error.to_string().contains("--data-dir"), "{error}");
    }
}
