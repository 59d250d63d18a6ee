//! What every request passes before it reaches its route: names, origins, keys, limits, its body,
//! the audit log.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::middleware::Next;
use futures_util::StreamExt;
use hyper::body::Frame;

use crate::access::Role;
use crate::app::{App, Ticket};
use crate::error::{Dialect, Refusal};

/// Routes that need the admin role.
const ADMIN: &[&str] = &["/v1/load_lora_adapter", "/v1/unload_lora_adapter"];

/// Lets a request through, or refuses it.
pub(crate) async fn gate(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let dialect = Dialect::of(&path);
    if path == "/health" {
        return next.run(request).await;
    }
    let mut response = match pass(&app, request, next, &path).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(dialect),
    };
    let headers = response.headers_mut();
    let constant = HeaderValue::from_static;
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, constant("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(constant("no-store"));
    if app.stopping.load(Ordering::Relaxed) {
        headers.insert(header::CONNECTION, constant("close"));
    }
    response
}

async fn pass(
    app: &Arc<App>,
    request: Request,
    next: Next,
    path: &str,
) -> Result<Response<Body>, Refusal> {
    let headers = request.headers();
    let begun = app
        .access
        .check_host(headers)
        .and_then(|()| app.access.check_origin(headers))
        .and_then(|()| app.access.user(headers));
    // Who was not let in is noted too, but not what was sent.
    let user = begun.map_err(|refusal| noted(app, "unknown", path, refusal))?;
    let refused = |refusal| noted(app, &user.name, path, refusal);
    if ADMIN.contains(&path) && user.role != Role::Admin {
        let message = format!("`{}` is not an admin", user.name);
        return Err(refused(Refusal::new(StatusCode::FORBIDDEN, message)));
    }
    if app.stopping.load(Ordering::Relaxed) {
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
        return Err(refused(Refusal { retry_after: Some(5), ..refusal }));
    }
    let permit = user.enter().map_err(refused)?;
    let ticket = Ticket::new(app, app.next_id(), &user.name, path, Some(permit));
    let answered = inside(app, &ticket, request, next).await;
    let response = match answered {
        Ok(response) => response,
        Err(refusal) => refusal.response(Dialect::of(path)),
    };
    ticket.status(response.status());
    let id = HeaderValue::from_str(&ticket.id());
    let (mut parts, body) = response.into_parts();
    if let Ok(id) = id {
        parts.headers.insert("x-request-id", id);
    }
    Ok(Response::from_parts(parts, Body::new(Noted { body, ticket })))
}

async fn inside(
    app: &Arc<App>,
    ticket: &Arc<Ticket>,
    request: Request,
    next: Next,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let body = read_body(app, &parts.headers, body).await?;
    if !body.is_empty() && !is_json(&parts.headers) {
        let message = "`Content-Type`: expected `application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let encoding = parts.headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        let message = "`Content-Encoding`: bodies are read as they are; expected none";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let session = parts.headers.get("x-claude-code-session-id").and_then(|it| it.to_str().ok());
    ticket.log_begin(&body, session.map(|session| session.get(..100).unwrap_or(session)))?;
    parts.extensions.insert(Arc::clone(ticket));
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

/// Notes a request that was not let in.
fn noted(app: &Arc<App>, user: &str, path: &str, refusal: Refusal) -> Refusal {
    let ticket = Ticket::new(app, app.next_id(), user, path, None);
    ticket.status(refusal.status);
    ticket.failed(&refusal);
    match &app.audit {
        // A log that cannot be written lets nobody learn more than that.
        Some(_) => ticket.log_begin(b"", None).err().unwrap_or(refusal),
        None => refusal,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

/// The body, if it is not too long and does not take too long.
async fn read_body(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let most = app.body_bytes;
    let too_long = || {
        let message = format!("the body is longer than {most} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|l| l > most as u64) {
        return Err(too_long());
    }
    let read = async {
        let mut stream = body.into_data_stream();
        let mut bytes = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| {
                Refusal::new(StatusCode::BAD_REQUEST, format!("the body breaks off: {error}"))
            })?;
            if bytes.len() + part.len() > most {
                return Err(too_long());
            }
            bytes.extend_from_slice(&part);
        }
        Ok(Bytes::from(bytes))
    };
    tokio::time::timeout(app.client_time, read).await.unwrap_or_else(|_| {
        let seconds = app.client_time.as_secs();
        let message = format!("the body took longer than {seconds} seconds");
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message))
    })
}

/// A body that tells its ticket when its last byte is taken.
struct Noted {
    body: Body,
    ticket: Arc<Ticket>,
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let ended = matches!(polled, Poll::Ready(None)) || self.body.is_end_stream();
        if ended {
            self.ticket.complete();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let ended = self.body.is_end_stream();
        if ended {
            self.ticket.complete();
        }
        ended
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
