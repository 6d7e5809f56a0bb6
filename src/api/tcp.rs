//! The local API on loopback TCP: for programs without Unix sockets, and for browsers. Any user of the machine and any page in a browser
//! can reach it, so requests that a foreign page makes are refused, and writing needs the token in the data directory.
//! Source: cli.md, Local API.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method,
        header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
        uri::Authority,
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    serve::Listener,
};
use tokio::net::TcpListener;

use super::{error::Fault, limited::Limited, socket::ApiError, token::ApiToken};

/// The first port that is tried where none is named.
pub const API_PORT_FIRST: u16 = 8880;
/// The last one.
pub const API_PORT_LAST: u16 = 8979;
/// Connections at a time; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// Forbids other origins to embed an answer (Fetch standard).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Where the API listens on TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ApiListen {
    /// On 127.0.0.1, on the first free port of [`API_PORT_FIRST`] to [`API_PORT_LAST`]; nowhere, where none is free.
    #[default]
    Anywhere,
    /// There, and nowhere else. A loopback address.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// A port that is open for the API, if there should be one and one is free.
#[derive(Debug)]
pub struct TcpPort(pub(super) Option<Limited<TcpListener>>);

impl TcpPort {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

/// Opens the port; nobody is answered there yet.
///
/// # Errors
/// The address that was named can't be had.
///
/// # Cancel safety
/// Nothing is opened.
pub async fn open(listen: ApiListen) -> Result<TcpPort, ApiError> {
    let listener = match listen {
        ApiListen::Off => None,
        ApiListen::At(address) => {
            Some(TcpListener::bind(address).await.map_err(|source| ApiError::Tcp { address, source })?)
        }
        ApiListen::Anywhere => first_free().await,
    };
    Ok(TcpPort(listener.map(|listener| Limited::new(listener, CONNECTIONS_MAX))))
}

/// Nobody asked for it by name, so a node without it still runs.
async fn first_free() -> Option<TcpListener> {
    for port in API_PORT_FIRST..=API_PORT_LAST {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Some(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                tracing::warn!(%error, "can't listen on 127.0.0.1, so the local API is on its Unix socket only");
                return None;
            }
        }
    }
    tracing::warn!(
        "every port from {API_PORT_FIRST} to {API_PORT_LAST} is taken, so the local API is on its Unix socket only; `--api` names another"
    );
    None
}

/// What requests are held against.
#[derive(Debug)]
struct Gate {
    token: ApiToken,
    address: SocketAddr,
}

/// The routes behind the checks.
pub(super) fn guarded(routes: Router, token: ApiToken, address: SocketAddr) -> Router {
    routes.layer(from_fn_with_state(Arc::new(Gate { token, address }), check))
}

async fn check(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = match gate.refusal(&request) {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

impl Gate {
    fn refusal(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        // A name that somebody else made point here: the page's own origin would be that name.
        let is_ours = |authority: &Authority| self.is_ours(authority);
        let named = single(headers, &HOST).and_then(|host| host.parse::<Authority>().ok());
        if !named.as_ref().is_some_and(is_ours) || !request.uri().authority().is_none_or(is_ours) {
            return Some(Fault::foreign_host().into_response());
        }
        if headers.contains_key(ORIGIN)
            && !single(headers, &ORIGIN).is_some_and(|origin| self.is_own_origin(origin))
        {
            return Some(Fault::foreign_origin().into_response());
        }
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let token = single(headers, &AUTHORIZATION).and_then(bearer);
        if token.is_some_and(|token| self.token.is(token)) {
            return None;
        }
        let mut refused = Fault::no_token().into_response();
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(refused)
    }

    /// A loopback name, and our port where one is named.
    fn is_ours(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_loopback = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_our_port = authority.port_u16().unwrap_or(80) == self.address.port();
        // A user name in front of the host is nothing that a browser sends.
        (is_loopback || bare.eq_ignore_ascii_case("localhost"))
            && is_our_port
            && !authority.as_str().contains('@')
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        let authority = origin.strip_prefix("http://").and_then(|rest| rest.parse::<Authority>().ok());
        authority.is_some_and(|authority| self.is_ours(&authority))
    }
}

/// A header that came once and is text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok()
}

/// The token of `Bearer TOKEN`; the scheme is in any case (RFC 9110, 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn refused(method: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let dir = tempfile::tempdir().unwrap();
        let gate =
            Gate { token: ApiToken::of(dir.path()).unwrap(), address: "127.0.0.1:8880".parse().unwrap() };
        let secret = std::fs::read_to_string(dir.path().join("api.token")).unwrap();
        let mut request = Request::builder().method(method).uri("/v1/thoughts");
        for (name, value) in headers {
            request = request.header(*name, value.replace("TOKEN", secret.trim()));
        }
        let request = request.body(Body::empty()).unwrap();
        gate.refusal(&request).map(|response| response.status().as_u16())
    }

    #[test]
    fn only_loopback_names_with_our_port_are_served() {
        for host in ["localhost:8880", "LOCALHOST:8880", "127.0.0.1:8880", "127.0.0.2:8880", "[::1]:8880"] {
            assert_eq!(refused("GET", &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example:8880",
            "localhost.evil.example:8880",
            "127.0.0.1.evil.example:8880",
            "localhost:8881",
            "localhost",
            "evil@localhost:8880",
            "192.0.2.7:8880",
            "[::ffff:192.0.2.7]:8880",
            "",
            "localhost:8880, evil.example",
        ] {
            assert_eq!(refused("GET", &[("host", host)]), Some(403), "{host}");
        }
        assert_eq!(refused("GET", &[]), Some(403));
        assert_eq!(refused("GET", &[("host", "localhost:8880"), ("host", "evil.example")]), Some(403));
    }

    #[test]
    fn only_pages_of_this_very_server_may_ask() {
        let with = |origin| refused("GET", &[("host", "localhost:8880"), ("origin", origin)]);
        assert_eq!(with("http://localhost:8880"), None);
        assert_eq!(with("http://127.0.0.1:8880"), None);
        for origin in
            ["http://evil.example", "https://localhost:8880", "http://localhost:3000", "null", "", "file://"]
        {
            assert_eq!(with(origin), Some(403), "{origin}");
        }
    }

    #[test]
    fn writing_needs_the_token() {
        let with = |token| refused("POST", &[("host", "localhost:8880"), ("authorization", token)]);
        assert_eq!(with("Bearer TOKEN"), None);
        assert_eq!(with("bearer TOKEN"), None);
        for token in ["Bearer", "Bearer ", "Basic TOKEN", "TOKEN", "Bearer TOKENx", "Bearer wrong"] {
            assert_eq!(with(token), Some(401), "{token}");
        }
        assert_eq!(refused("POST", &[("host", "localhost:8880")]), Some(401));
        assert_eq!(refused("DELETE", &[("host", "localhost:8880")]), Some(401));
        let from_a_page = [
            ("host", "localhost:8880"),
            ("origin", "http://evil.example"),
            ("authorization", "Bearer TOKEN"),
        ];
        assert_eq!(refused("POST", &from_a_page), Some(403), "not even with it");
    }
}
