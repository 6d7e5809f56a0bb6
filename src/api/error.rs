//! What a route answers where it can't do what was asked: a status code and `{"error": {"code", "message"}}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::json::{ErrorBody, ErrorText};
use crate::{node::NodeGone, protocol::input::SubmitFault};

/// A refused request. Nothing was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Fault {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The request itself is wrong.
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// There is no such thing.
    pub(super) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// The way the request was made does not go with its path.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes other methods")
    }

    /// Only JSON is taken: a web page may send other types across origins without asking.
    pub(super) fn not_json() -> Self {
        let message = "the body must be JSON, with `content-type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message)
    }

    /// It was made under a name that is not this machine's: somebody else's name may point here (DNS rebinding).
    pub(super) fn foreign_host() -> Self {
        let message = "this API answers under `localhost` and loopback addresses only, with its own port";
        Self::new(StatusCode::FORBIDDEN, "foreign_host", message)
    }

    /// Another server's page made it.
    pub(super) fn foreign_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", "pages of other origins may not use this API")
    }

    /// Writing over TCP takes more than being on this machine.
    pub(super) fn no_token() -> Self {
        let message =
            "writing needs `Authorization: Bearer` with the token in `api.token` in the data directory";
        Self::new(StatusCode::UNAUTHORIZED, "no_token", message)
    }

    /// Something else that goes on keeps it from being done now.
    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// The thought, or the request that carries it, is too long.
    pub(super) fn content_too_long(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "content_too_long", message)
    }

    /// This node is in trouble.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// This node can't do it now.
    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// What programs look at.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<NodeGone> for Fault {
    fn from(gone: NodeGone) -> Self {
        Self::unavailable("stopping", gone.to_string())
    }
}

impl From<SubmitFault> for Fault {
    fn from(fault: SubmitFault) -> Self {
        let message = fault.to_string();
        match fault {
            SubmitFault::Busy { .. } => Self::unavailable("busy", message),
            SubmitFault::StoreFailed => Self::unavailable("store_failed", message),
            SubmitFault::OwnLogAwaited { .. } => Self::unavailable("own_log_awaited", message),
            SubmitFault::OwnLogBehind { .. } => Self::unavailable("own_log_behind", message),
            SubmitFault::OwnLogConflict { .. } => Self::unavailable("own_log_conflict", message),
            SubmitFault::Clone => Self::unavailable("clone", message),
            SubmitFault::DiskLow(_) => Self::unavailable("disk_low", message),
            SubmitFault::Key => Self::bad_request("bad_key", message),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let error = ErrorText { code: self.code.to_owned(), message: self.message };
        (self.status, Json(ErrorBody { error })).into_response()
    }
}
