//! Why a request is refused, in the words of each dialect.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use ft_model::engine::EngineError;
use serde_json::{Value, json};

/// Whose protocol a route speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// By the route.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/v1/messages") {
            Self::Anthropic
        } else if path.starts_with("/api/") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// In one clause.
    pub(crate) message: String,
    /// The field at fault.
    pub(crate) field: Option<String>,
    /// Seconds after which it may go better.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), field: None, retry_after: None }
    }

    /// 400: what is wrong with a field.
    pub(crate) fn field(field: impl Into<String>, what: impl std::fmt::Display) -> Self {
        let field = field.into();
        let message = format!("`{field}`: {what}");
        Self { field: Some(field), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    /// 404: there is no such model.
    pub(crate) fn no_model(name: &str, known: &[String]) -> Self {
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("there is no model `{name}`; there are {}", known.join(", "));
        Self { field: Some("model".to_owned()), ..Self::new(StatusCode::NOT_FOUND, message) }
    }

    fn kind(&self, dialect: Dialect) -> &'static str {
        match (dialect, self.status.as_u16()) {
            (_, 401) => "authentication_error",
            (_, 403) => "permission_error",
            (Dialect::Anthropic, 404) => "not_found_error",
            (Dialect::Anthropic, 413) => "request_too_large",
            (_, 429) => "rate_limit_error",
            (Dialect::Anthropic, 503) => "overloaded_error",
            (Dialect::Anthropic, 500..) => "api_error",
            (_, 500..) => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn code(&self) -> Value {
        match self.status.as_u16() {
            401 => json!("invalid_api_key"),
            404 if self.field.as_deref() == Some("model") => json!("model_not_found"),
            429 => json!("rate_limit_exceeded"),
            503 => json!("unavailable"),
            _ => Value::Null,
        }
    }

    /// The body.
    pub(crate) fn body(&self, dialect: Dialect) -> Value {
        let kind = self.kind(dialect);
        match dialect {
            Dialect::OpenAi => json!({"error": {
                "message": self.message, "type": kind, "param": self.field, "code": self.code(),
            }}),
            Dialect::Anthropic => {
                json!({"type": "error", "error": {"type": kind, "message": self.message}})
            }
            Dialect::Ollama => json!({"error": self.message}),
        }
    }

    /// The whole answer.
    pub(crate) fn response(&self, dialect: Dialect) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body(dialect).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // A browser asks its user for a key, as the password.
            let asks = HeaderValue::from_static("Basic realm=\"ft\", Bearer");
            headers.insert(header::WWW_AUTHENTICATE, asks);
        }
        response
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        let bad = |field: &str| Self::field(field, &message);
        match &error {
            EngineError::EmptyPrompt => bad("prompt"),
            EngineError::Context { prompt, context, .. } if prompt >= context => bad("messages"),
            EngineError::Context { .. } | EngineError::Memory { .. } => bad("max_tokens"),
            EngineError::Token { field, .. } | EngineError::Number { field, .. } => bad(field),
            EngineError::Adapter { .. } => Self {
                field: Some("model".to_owned()),
                ..Self::new(StatusCode::NOT_FOUND, message)
            },
            EngineError::Full { .. } => {
                Self { retry_after: Some(2), ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
            }
            EngineError::Stopping => {
                let message = "the server is stopping";
                Self { retry_after: Some(5), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
            }
            EngineError::Grammar { .. } => bad("response_format"),
            EngineError::NotFinite => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}
