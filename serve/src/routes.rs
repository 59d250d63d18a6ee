//! Which route leads where.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::api::{anthropic, completions, ollama, openai, plain, responses};
use crate::app::App;
use crate::error::{Dialect, Refusal};
use crate::gate::gate;

/// All routes, behind the gate.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(plain::page))
        .route("/health", get(plain::health))
        .route("/metrics", get(plain::metrics))
        .route("/tokenize", post(plain::tokenize))
        .route("/detokenize", post(plain::detokenize))
        .route("/tokenizer_info", get(plain::tokenizer_info))
        .route("/apply-template", post(plain::apply_template))
        .route("/v1/models", get(plain::models))
        .route("/v1/models/{name}", get(plain::one_model))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(plain::embeddings))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/v1/load_lora_adapter", post(plain::load_adapter))
        .route("/v1/unload_lora_adapter", post(plain::unload_adapter))
        .route("/api/version", get(ollama::version))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/generate", post(ollama::generate))
        .route("/api/chat", post(ollama::chat))
        .route("/api/embed", post(ollama::embed))
        .route("/api/embeddings", post(ollama::embeddings))
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        // The gate has read the body and kept to the server's own limit.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(Arc::clone(app), gate))
        .with_state(Arc::clone(app))
}

async fn nothing(uri: Uri) -> Response {
    let message = format!("there is no route `{}`", uri.path());
    Refusal::new(StatusCode::NOT_FOUND, message).response(Dialect::of(uri.path())).into_response()
}

async fn not_so(uri: Uri) -> Response {
    let message = format!("`{}` is not asked with this method", uri.path());
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message);
    refusal.response(Dialect::of(uri.path())).into_response()
}
