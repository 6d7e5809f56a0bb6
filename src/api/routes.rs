//! The routes: each takes its question apart, asks, and answers.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::Response,
    routing::{get, post},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    corpus::{self, Explained, Wanted},
    error::Fault,
    federation, json, latency, measurements, submit, throughput,
    views::{self, Readiness},
};
use crate::node::Handle;

type Reply<T> = Result<Json<T>, Fault>;

/// All routes over that node.
pub(super) fn router(handle: Handle) -> Router {
    let body_bytes_max = submit::request_bytes_max(&handle.about().policy);
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/peers", get(peers))
        .route("/v1/peers/approve", post(approve))
        .route("/v1/authors", get(authors))
        .route("/v1/authors/clear", post(clear))
        .route("/v1/sessions", get(sessions))
        .route("/v1/economics", get(economics))
        .route("/v1/alerts", get(alerts))
        .route("/v1/thoughts", get(thoughts).post(post_thought))
        .route("/v1/probe", post(probe))
        .route("/v1/bench/latency", post(bench_latency))
        .route("/v1/bench/throughput", post(bench_throughput))
        .route("/v1/explain", get(explain))
        .route("/v1/members", get(members))
        .route("/v1/members/revoke", post(revoke))
        .route("/v1/invitations", get(invitations).post(invite))
        .route("/v1/invitations/cancel", post(cancel))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .fallback(|| async { Fault::not_found("no_such_path", "there is no such path; see `/v1/status`") })
        .method_not_allowed_fallback(|| async { Fault::method_not_allowed() })
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(handle)
}

async fn status(State(handle): State<Handle>) -> Reply<json::Status> {
    Ok(Json(views::status(&handle).await?))
}

async fn peers(State(handle): State<Handle>) -> Reply<json::Peers> {
    let view = handle.view().await?;
    Ok(Json(json::Peers { peers: views::peers(&handle, &view) }))
}

async fn authors(State(handle): State<Handle>) -> Reply<json::Authors> {
    let known = handle.known().await?;
    Ok(Json(json::Authors { authors: views::authors(&handle, &known) }))
}

async fn sessions(State(handle): State<Handle>) -> Reply<json::Sessions> {
    Ok(Json(json::Sessions { sessions: corpus::all_sessions(&handle).await? }))
}

async fn economics(State(handle): State<Handle>) -> Reply<json::Economics> {
    Ok(Json(corpus::federation_economics(&handle).await?))
}

async fn alerts(State(handle): State<Handle>) -> Json<json::Alerts> {
    Json(json::Alerts { alerts: views::alerts(&handle) })
}

async fn thoughts(
    State(handle): State<Handle>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Reply<json::Thoughts> {
    let wanted = asked(wanted)?;
    Ok(Json(json::Thoughts { thoughts: corpus::thoughts(&handle, wanted).await? }))
}

async fn explain(
    State(handle): State<Handle>,
    wanted: Result<Query<Explained>, QueryRejection>,
) -> Reply<json::Explanation> {
    let wanted = asked(wanted)?;
    Ok(Json(corpus::explain(&handle, wanted).await?))
}

fn asked<T>(question: Result<Query<T>, QueryRejection>) -> Result<T, Fault> {
    match question {
        Ok(Query(question)) => Ok(question),
        Err(rejection) => Err(Fault::bad_request("bad_query", rejection.body_text())),
    }
}

async fn post_thought(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Reply<json::Submitted> {
    let request = posted(&handle, &headers, body)?;
    Ok(Json(submit::submit(&handle, request).await?))
}

async fn clear(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Reply<json::Cleared> {
    let request = posted(&handle, &headers, body)?;
    Ok(Json(views::clear(&handle, &request).await?))
}

async fn approve(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Reply<json::ApprovedPeer> {
    let request = posted(&handle, &headers, body)?;
    Ok(Json(views::approve(&handle, request).await?))
}

async fn probe(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Reply<measurements::Probed> {
    let request = posted(&handle, &headers, body)?;
    Ok(Json(latency::probe(&handle, &request).await?))
}

async fn bench_latency(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let request = posted(&handle, &headers, body)?;
    latency::bench(&handle, &request).await
}

async fn bench_throughput(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let request = posted(&handle, &headers, body)?;
    throughput::bench(&handle, &request).await
}

async fn members(State(handle): State<Handle>) -> Reply<json::Members> {
    Ok(Json(federation::members(&handle).await?))
}

async fn invitations(State(handle): State<Handle>) -> Reply<json::Invitations> {
    Ok(Json(federation::invitations(&handle).await?))
}

async fn invite(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Reply<json::Invited> {
    let request = posted(&handle, &headers, body)?;
    Ok(Json(federation::invite(&handle, request).await?))
}

async fn revoke(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Reply<json::Revoked> {
    let request = posted(&handle, &headers, body)?;
    Ok(Json(federation::revoke(&handle, request).await?))
}

async fn cancel(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Reply<json::Cancel> {
    let request = posted(&handle, &headers, body)?;
    Ok(Json(federation::cancel(&handle, request).await?))
}

fn posted<T: DeserializeOwned>(
    handle: &Handle,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Fault> {
    if !is_json(headers) {
        return Err(Fault::not_json());
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(handle),
        _ => Fault::bad_request("bad_body", rejection.body_text()),
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Fault::bad_request("bad_request", format!("the body is not as it should be: {error}"))
    })
}

fn too_long(handle: &Handle) -> Fault {
    let max = handle.about().policy.content_max_bytes;
    Fault::content_too_long(format!("the request is too long; a content has at most {max} bytes"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

async fn alive() -> Json<Value> {
    Json(json!({ "ok": true }))
}

/// The loop answers, so the store is open; and the node has an account and a socket.
async fn ready(State(handle): State<Handle>) -> Reply<Value> {
    match views::is_ready(&handle).await? {
        Readiness::Ready => Ok(Json(json!({ "ok": true }))),
        Readiness::Starting => Err(Fault::unavailable("starting", "the node is not ready yet")),
        Readiness::NotWriting { state, why } => Err(Fault::unavailable(state, why)),
    }
}
