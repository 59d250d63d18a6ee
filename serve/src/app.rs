//! What all requests share, and what is noted of each.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::access::{Access, Permit};
use crate::audit::AuditLog;
use crate::error::Refusal;
use crate::model::{Adapter, Model, now};

/// Upper ends of the buckets of durations, in seconds.
const BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    /// There once it is loaded.
    pub(crate) model: OnceLock<Arc<Model>>,
    pub(crate) access: Access,
    pub(crate) audit: Option<AuditLog>,
    /// Whether bodies are logged, and not their hashes alone.
    pub(crate) audit_bodies: bool,
    pub(crate) metrics: Metrics,
    pub(crate) body_bytes: usize,
    pub(crate) client_time: Duration,
    pub(crate) stopping: AtomicBool,
    /// Requests so far.
    pub(crate) count: AtomicU64,
    /// When the server began, so that ids of two runs differ.
    pub(crate) begun: u64,
}

impl App {
    /// The model, or 503 while it is loading.
    pub(crate) fn model(&self) -> Result<&Arc<Model>, Refusal> {
        self.model.get().ok_or_else(|| Refusal {
            retry_after: Some(2),
            ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the model is being loaded")
        })
    }

    /// A name that no other request has.
    pub(crate) fn next_id(&self) -> String {
        format!("{}{:08}", self.begun, self.count.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn new_begun() -> u64 {
        now()
    }
}

/// Durations in buckets.
#[derive(Debug, Default, Clone)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        for (bucket, end) in self.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= end);
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn write(&self, name: &str, help: &str, out: &mut String) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (bucket, end) in self.buckets.iter().zip(BUCKETS) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{end}\"}} {bucket}");
        }
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {}", self.sum, self.count);
    }
}

#[derive(Debug, Default)]
struct Counted {
    /// By route and status.
    requests: BTreeMap<(String, u16), u64>,
    outcomes: BTreeMap<&'static str, u64>,
    durations: Histogram,
    first_tokens: Histogram,
    prompt_tokens: u64,
    generated_tokens: u64,
}

/// Numbers for Prometheus.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counted>);

impl Metrics {
    fn note(&self, entry: &Entry, outcome: &'static str) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.requests.entry((entry.route.clone(), entry.status)).or_default() += 1;
        *counted.outcomes.entry(outcome).or_default() += 1;
        counted.durations.add(entry.begun.elapsed());
        if let Some(first) = entry.first_token {
            counted.first_tokens.add(first);
        }
        counted.prompt_tokens += entry.prompt_tokens as u64;
        counted.generated_tokens += entry.completion_tokens as u64;
    }

    /// All of them, in Prometheus' text format.
    pub(crate) fn text(&self, app: &App) -> String {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: String| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        let (counter, gauge) = ("counter", "gauge");
        one(
            "ft_prompt_tokens_total",
            counter,
            "Tokens of prompts",
            counted.prompt_tokens.to_string(),
        );
        one(
            "ft_generated_tokens_total",
            counter,
            "Tokens of answers",
            counted.generated_tokens.to_string(),
        );
        if let Some(model) = app.model.get() {
            let stats = model.engine.stats();
            let options = model.engine.options();
            one("ft_requests_running", gauge, "Answers under way", stats.running.to_string());
            one("ft_requests_waiting", gauge, "Requests without a slot", stats.waiting.to_string());
            one("ft_slots", gauge, "Answers that can be under way", options.slots.to_string());
            one(
                "ft_cache_tokens_used",
                gauge,
                "Tokens with room for keys and values",
                stats.cache_tokens_used.to_string(),
            );
            one(
                "ft_cache_tokens_planned",
                gauge,
                "Tokens that fit in the memory set aside",
                options.cache_tokens.to_string(),
            );
            one("ft_steps_total", counter, "Passes of the engine", stats.steps.to_string());
            one(
                "ft_busy_slots_total",
                counter,
                "Slots that took part in passes, summed",
                stats.busy_slots.to_string(),
            );
            one(
                "ft_prefix_cache_tokens_total",
                counter,
                "Tokens of prompts that were known from earlier ones",
                stats.cached_tokens.to_string(),
            );
            one("ft_adapters", gauge, "Adapters", model.adapters().len().to_string());
        }
        out.push_str(
            "# HELP ft_http_requests_total Requests\n# TYPE ft_http_requests_total counter\n",
        );
        for ((route, status), count) in &counted.requests {
            let _ = writeln!(
                out,
                "ft_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}"
            );
        }
        out.push_str(
            "# HELP ft_outcomes_total How requests ended\n# TYPE ft_outcomes_total counter\n",
        );
        for (outcome, count) in &counted.outcomes {
            let _ = writeln!(out, "ft_outcomes_total{{outcome=\"{outcome}\"}} {count}");
        }
        out.push_str("# HELP ft_user_requests_running Requests under way\n# TYPE ft_user_requests_running gauge\n");
        for (user, running) in app.access.running() {
            // Names of users come from the operator's file; quotes would break the format.
            let user = user.replace(['"', '\\', '\n'], "_");
            let _ = writeln!(out, "ft_user_requests_running{{user=\"{user}\"}} {running}");
        }
        counted.durations.write("ft_request_seconds", "From the header to the last byte", &mut out);
        counted.first_tokens.write(
            "ft_time_to_first_token_seconds",
            "From the header to the first token",
            &mut out,
        );
        out
    }
}

/// What is noted of a request.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) route: String,
    pub(crate) status: u16,
    begun: Instant,
    first_token: Option<Duration>,
    model: Option<(String, String)>,
    adapter: Option<Adapter>,
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    cached_tokens: usize,
    /// What a stream that had begun ended with.
    failed: Option<String>,
    /// `user`, `metadata` and such, of the client's own.
    notes: Map<String, Value>,
}

/// A request under way: noted when it is dropped.
pub(crate) struct Ticket {
    app: Arc<App>,
    entry: Mutex<Entry>,
    /// Whether the last byte was sent.
    complete: AtomicBool,
    _permit: Option<Permit>,
}

impl Ticket {
    pub(crate) fn new(
        app: &Arc<App>,
        id: String,
        user: &str,
        route: &str,
        permit: Option<Permit>,
    ) -> Arc<Self> {
        let entry = Entry {
            id,
            user: user.to_owned(),
            route: route.to_owned(),
            status: 0,
            begun: Instant::now(),
            first_token: None,
            model: None,
            adapter: None,
            prompt_tokens: 0,
            completion_tokens: 0,
            cached_tokens: 0,
            failed: None,
            notes: Map::new(),
        };
        let complete = AtomicBool::new(false);
        Arc::new(Self { app: Arc::clone(app), entry: Mutex::new(entry), complete, _permit: permit })
    }

    fn entry(&self) -> std::sync::MutexGuard<'_, Entry> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> String {
        self.entry().id.clone()
    }

    /// Notes who answers.
    pub(crate) fn answers(&self, model: &Model, adapter: Option<&Adapter>) {
        let mut entry = self.entry();
        entry.model = Some((model.name.clone(), model.digest.clone()));
        entry.adapter = adapter.cloned();
    }

    /// Notes what the client says of itself.
    pub(crate) fn note(&self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.entry().notes.insert(name.to_owned(), value);
        }
    }

    pub(crate) fn prompt_tokens(&self, tokens: usize) {
        self.entry().prompt_tokens += tokens;
    }

    /// Notes an answer's end.
    pub(crate) fn answered(&self, tokens: usize, cached_tokens: usize) {
        let mut entry = self.entry();
        entry.completion_tokens += tokens;
        entry.cached_tokens += cached_tokens;
    }

    pub(crate) fn first_token(&self) {
        let mut entry = self.entry();
        if entry.first_token.is_none() {
            entry.first_token = Some(entry.begun.elapsed());
        }
    }

    pub(crate) fn failed(&self, refusal: &Refusal) {
        self.entry().failed = Some(refusal.message.clone());
    }

    pub(crate) fn status(&self, status: StatusCode) {
        self.entry().status = status.as_u16();
    }

    pub(crate) fn complete(&self) {
        self.complete.store(true, Ordering::Relaxed);
    }

    /// Writes the line that a request begins with.
    pub(crate) fn log_begin(&self, body: &[u8], session: Option<&str>) -> Result<(), Refusal> {
        let Some(audit) = &self.app.audit else { return Ok(()) };
        let entry = self.entry();
        let mut fields = Map::new();
        fields.insert("event".to_owned(), json!("request"));
        fields.insert("id".to_owned(), json!(entry.id));
        fields.insert("user".to_owned(), json!(entry.user));
        fields.insert("route".to_owned(), json!(entry.route));
        fields.insert("body_sha256".to_owned(), json!(crate::audit::sha256(body)));
        if let Some(session) = session {
            fields.insert("session".to_owned(), json!(session));
        }
        if self.app.audit_bodies {
            fields.insert("body".to_owned(), json!(String::from_utf8_lossy(body)));
        }
        drop(entry);
        audit.append(fields).map_err(|error| {
            let message = format!("the request cannot be logged, so it is not answered: {error}");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let complete = self.complete.load(Ordering::Relaxed);
        let entry = self.entry.get_mut().unwrap_or_else(PoisonError::into_inner);
        let outcome = match (entry.status, &entry.failed, complete) {
            (400..500 | 503, _, _) => "refused",
            (_, Some(_), _) | (500.., _, _) => "failed",
            (_, _, false) => "cancelled",
            _ => "answered",
        };
        self.app.metrics.note(entry, outcome);
        let Some(audit) = &self.app.audit else { return };
        let mut fields = Map::new();
        fields.insert("event".to_owned(), json!("end"));
        fields.insert("id".to_owned(), json!(entry.id));
        fields.insert("user".to_owned(), json!(entry.user));
        fields.insert("route".to_owned(), json!(entry.route));
        fields.insert("outcome".to_owned(), json!(outcome));
        fields.insert("status".to_owned(), json!(entry.status));
        if let Some((name, digest)) = &entry.model {
            fields.insert("model".to_owned(), json!({"name": name, "sha256": digest}));
        }
        if let Some(adapter) = &entry.adapter {
            let adapter = json!({"name": adapter.name, "sha256": adapter.digest});
            fields.insert("adapter".to_owned(), adapter);
        }
        fields.insert("prompt_tokens".to_owned(), json!(entry.prompt_tokens));
        fields.insert("cached_tokens".to_owned(), json!(entry.cached_tokens));
        fields.insert("completion_tokens".to_owned(), json!(entry.completion_tokens));
        fields.insert("seconds".to_owned(), json!(entry.begun.elapsed().as_secs_f64()));
        if let Some(failed) = &entry.failed {
            fields.insert("failure".to_owned(), json!(failed));
        }
        if !entry.notes.is_empty() {
            fields.insert("client".to_owned(), Value::Object(std::mem::take(&mut entry.notes)));
        }
        // The next request finds that the log cannot be written, and is refused.
        let _ = audit.append(fields);
    }
}
