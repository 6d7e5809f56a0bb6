//! The command line's side of the local API: HTTP/1.1 over the Unix socket of a running node.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::exit::{Exit, Failure};
use crate::api::{json::ErrorBody, socket};

/// How long a running node may take to accept.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long an answer may take: a submission waits for the disk, and explaining folds a log again.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest answer: a full corpus of 100 MiB with room for its JSON.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// Talks to the node that runs on one data directory.
#[derive(Clone, Debug)]
pub struct Client {
    data_dir: PathBuf,
}

impl Client {
    /// For the node on that data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// Asks.
    ///
    /// # Errors
    /// Where no node runs, it does not answer in time, or it says no.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, Bytes::new(), ANSWER_MAX).await
    }

    /// Sends something.
    ///
    /// # Errors
    /// As [`Client::get`]. Where the answer did not come, the node may still have done what was asked.
    ///
    /// # Cancel safety
    /// The node may still do what was asked.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body).context("can't write the request")?;
        self.ask(Method::POST, path, body.into(), ANSWER_MAX).await
    }

    /// As [`Client::post`], for what takes so long by itself.
    ///
    /// # Errors
    /// As [`Client::get`].
    ///
    /// # Cancel safety
    /// The node gives up what was asked.
    pub async fn post_and_wait<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        takes: Duration,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body).context("can't write the request")?;
        self.ask(Method::POST, path, body.into(), takes.saturating_add(ANSWER_MAX)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> anyhow::Result<T> {
        let stream = self.connect().await?;
        let answer = timeout(patience, exchange(stream, method, path, body)).await;
        let (status, body) = answer.map_err(|_| self.silent())??;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .context("the node's answer is not understood; is it another version of cogmesh?");
        }
        Err(refused(status, &body).into())
    }

    async fn connect(&self) -> anyhow::Result<UnixStream> {
        let path = socket::path_in(&self.data_dir)?;
        match timeout(CONNECT_MAX, UnixStream::connect(&path)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if is_nobody(&error) => Err(self.no_node().into()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(error).with_context(|| format!("can't open `{}`", path.display()))
            }
            Ok(Err(error)) => Err(broken(&format!("can't open `{}`", path.display()), &error)),
            Err(_) => Err(self.silent().into()),
        }
    }

    fn no_node(&self) -> Failure {
        let message = format!("no node is running on the data directory `{}`", self.data_dir.display());
        Failure::new(Exit::NoNode, message).hint(
            "start one with `cogmesh start`, or name the data directory of a running one with `--data-dir`",
        )
    }

    fn silent(&self) -> Failure {
        let message = format!("the node on the data directory `{}` does not answer", self.data_dir.display());
        Failure::new(Exit::Failed, message).hint("look at its log; what was asked may still be done")
    }
}

/// The cause as text only: a pipe that breaks here is a failure, unlike one on standard output.
fn broken(what: &str, error: &dyn std::error::Error) -> anyhow::Error {
    Failure::new(Exit::Failed, format!("{what}: {error}"))
        .hint("look at the node's log; what was asked may still be done")
        .into()
}

/// No socket, or one that a dead process left.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
    )
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken("the node does not speak HTTP", &error))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .context("can't write the request")?;
    let asking = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| broken("the node ended the connection", &error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => {
                anyhow!("the answer is longer than {ANSWER_BYTES_MAX} bytes; ask for less with `--limit`")
            }
            Err(error) => broken("the node's answer broke off", &*error),
        })?;
        drop(sender);
        anyhow::Ok((status, body.to_bytes()))
    };
    // The connection ends when the sender is dropped; what it has to say then is of no interest.
    let (answer, _ended) = tokio::join!(asking, connection);
    answer
}

/// What the node said no with.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let Ok(ErrorBody { error }) = serde_json::from_slice(body) else {
        return Failure::new(Exit::Failed, format!("the node answered with status {status}"));
    };
    let exit = match (error.code.as_str(), status) {
        ("content_too_long", _) => Exit::Inadmissible,
        (_, StatusCode::BAD_REQUEST) => Exit::Usage,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, error.message).with_code(error.code.clone());
    match error.code.as_str() {
        "content_too_long" => failure.hint("nothing was recorded; say it shorter, or in several thoughts"),
        "open_federation" => failure.hint("`cogmesh federation create` makes a closed federation"),
        "author_unknown" => failure.hint("`cogmesh authors` lists those that this node knows"),
        "no_such_peer" => failure.hint("`cogmesh peers` lists those that are linked, and why others are not"),
        "no_such_path" => failure.hint("the running node is older than this command; start it again"),
        _ => failure,
    }
}

/// A path with a query; names and values are percent-encoded, and those without a value left out.
#[must_use]
pub fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let pairs: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_carries_any_text_and_leaves_out_what_is_not_asked() {
        assert_eq!(query("/v1/thoughts", &[("limit", None)]), "/v1/thoughts");
        let parameters = [("session", Some("a b&c=é".to_owned())), ("limit", Some("5".to_owned()))];
        assert_eq!(query("/v1/thoughts", &parameters), "/v1/thoughts?session=a%20b%26c%3D%C3%A9&limit=5");
    }

    #[test]
    fn a_content_that_is_too_long_is_inadmissible_and_a_wrong_question_is_wrong_usage() {
        let body = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        let too_long = refused(StatusCode::PAYLOAD_TOO_LARGE, body("content_too_long").as_bytes());
        assert_eq!(too_long.exit(), Exit::Inadmissible);
        assert_eq!(refused(StatusCode::BAD_REQUEST, body("bad_limit").as_bytes()).exit(), Exit::Usage);
        assert_eq!(refused(StatusCode::NOT_FOUND, body("entry_unknown").as_bytes()).exit(), Exit::Failed);
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"?").exit(), Exit::Failed);
    }
}
