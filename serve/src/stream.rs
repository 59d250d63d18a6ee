//! Answers that are sent while they are made.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Lines that wait for a slow client; then the engine's pieces do.
const WAITING: usize = 64;
/// How often a quiet stream says that it is still there.
const QUIET: Duration = Duration::from_secs(15);

/// Where the lines of a stream go.
pub(crate) struct Lines {
    out: Sender<Bytes>,
}

/// The client has gone.
pub(crate) struct Gone;

impl Lines {
    async fn line(&self, line: String) -> Result<(), Gone> {
        self.out.send(Bytes::from(line)).await.map_err(|_| Gone)
    }

    /// A server-sent event without a name.
    pub(crate) async fn data(&self, data: &Value) -> Result<(), Gone> {
        self.line(format!("data: {data}\n\n")).await
    }

    /// A server-sent event.
    pub(crate) async fn event(&self, name: &str, data: &Value) -> Result<(), Gone> {
        self.line(format!("event: {name}\ndata: {data}\n\n")).await
    }

    /// The end of a stream in OpenAI's dialect.
    pub(crate) async fn done(&self) -> Result<(), Gone> {
        self.line("data: [DONE]\n\n".to_owned()).await
    }

    /// A line of JSON.
    pub(crate) async fn json(&self, data: &Value) -> Result<(), Gone> {
        self.line(format!("{data}\n")).await
    }
}

fn response(
    kind: &'static str,
    inbox: Receiver<Bytes>,
    quiet: Option<&'static str>,
) -> Response<Body> {
    let body = stream::unfold(inbox, move |mut inbox| async move {
        let next = match quiet {
            None => inbox.recv().await,
            Some(quiet) => match tokio::time::timeout(QUIET, inbox.recv()).await {
                Ok(next) => next,
                Err(_) => Some(Bytes::from_static(quiet.as_bytes())),
            },
        };
        next.map(|bytes| (Ok::<_, Infallible>(bytes), inbox))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A stream of server-sent events that `make` fills.
pub(crate) fn events<F>(quiet: &'static str, make: impl FnOnce(Lines) -> F) -> Response<Body>
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (out, inbox) = channel(WAITING);
    tokio::spawn(make(Lines { out }));
    response("text/event-stream", inbox, Some(quiet))
}

/// A stream of lines of JSON that `make` fills.
pub(crate) fn lines<F>(make: impl FnOnce(Lines) -> F) -> Response<Body>
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (out, inbox) = channel(WAITING);
    tokio::spawn(make(Lines { out }));
    response("application/x-ndjson", inbox, None)
}

/// A whole answer.
pub(crate) fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
