//! Answers that take minutes: a line break now and then, which JSON does not mind, tells both ends that the other one is still there. Where
//! the asker has gone, the work is given up.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use serde::Serialize;
use tokio::{
    task::JoinHandle,
    time::{Interval, interval},
};

/// How often one end hears of the other; far below the silence after which a connection ends.
const BEAT: Duration = Duration::from_secs(1);

/// The answer that this work comes to. Its status is 200 whatever it is: it is sent before.
pub(super) fn answer<T: Serialize + Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Response {
    let work = tokio::spawn(async move { serde_json::to_vec(&work.await) });
    let body = Patient { work, beat: interval(BEAT), is_done: false };
    ([(CONTENT_TYPE, "application/json")], Body::new(body)).into_response()
}

struct Patient {
    work: JoinHandle<serde_json::Result<Vec<u8>>>,
    beat: Interval,
    is_done: bool,
}

impl HttpBody for Patient {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(done) = Pin::new(&mut self.work).poll(context) {
            self.is_done = true;
            // Work that failed leaves an answer that is none: whoever asked sees that it broke off.
            let json = done.ok().and_then(Result::ok).unwrap_or_default();
            return Poll::Ready(Some(Ok(Frame::data(json.into()))));
        }
        let _beat = ready!(self.beat.poll_tick(context));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"\n")))))
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        self.work.abort();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_minutes_says_now_and_then_that_it_is_coming() {
        let work = async {
            tokio::time::sleep(Duration::from_secs(300)).await;
            [1, 2]
        };
        let body = answer(work).into_body().collect().await.unwrap().to_bytes();
        let beats = body.iter().take_while(|byte| **byte == b'\n').count();
        assert!((299..=301).contains(&beats), "{beats}");
        assert_eq!(serde_json::from_slice::<[u8; 2]>(&body).unwrap(), [1, 2]);
    }

    #[tokio::test]
    async fn work_whose_asker_has_gone_is_given_up() {
        let (held, given_up) = oneshot::channel::<()>();
        let response = answer(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        drop(response);
        assert!(given_up.await.is_err(), "what the work held is dropped");
    }
}
