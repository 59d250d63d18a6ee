//! Sockets: connections with limits and timeouts, TLS, and an orderly end.

mod connections;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Map, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::access::{Access, KeyLimits, KeyLine};
use crate::app::{App, Metrics};
use crate::audit::{AuditError, AuditLog};
use crate::model::Model;
use connections::accept;
use tls::acceptor;

/// What is left to answers that were told to stop.
const LAST_TIME: Duration = Duration::from_secs(5);

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub address: SocketAddr,
    /// Whether others than this machine may ask without keys.
    pub insecure: bool,
    /// Who may ask; anybody if there are none.
    pub keys: Vec<KeyLine>,
    /// Limits of keys without their own.
    pub limits: KeyLimits,
    /// Names of this server.
    pub hosts: Vec<String>,
    /// Origins of pages that may ask.
    pub origins: Vec<String>,
    /// Certificates and private key in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The audit log.
    pub audit: Option<PathBuf>,
    /// The key of its hashes.
    pub audit_key: Option<Vec<u8>>,
    /// Whether bodies are logged, and not their hashes alone.
    pub audit_bodies: bool,
    /// Longest body.
    pub body_bytes: usize,
    /// Connections at once.
    pub connections: usize,
    /// How long a client may take for a handshake, for the headers of a request, for its body, for taking the next bytes of an
    /// answer, and between two requests of a connection.
    pub client_time: Duration,
    /// How long answers under way may take when the server is told to stop.
    pub drain: Duration,
}

/// Why the server cannot be started, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anybody could ask.
    #[error(
        "`{address}` can be reached from other machines, and no key is needed\n  = help: give keys (`--keys FILE`), \
         listen on 127.0.0.1, or say `--insecure`"
    )]
    Open {
        /// Where it would listen.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gives no threads or signals.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The certificate or its key cannot be used.
    #[error("`{}`: {what}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The model cannot be loaded.
    #[error("{0}")]
    Model(String),
}

/// What the server tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It listens.
    Listening(SocketAddr),
    /// The model is there.
    Ready,
    /// It was told to stop, and finishes.
    Stopping,
}

/// Serves until a signal comes, and returns its number.
///
/// Listens first, answering 503, and then loads the model; so what is wrong with the address is
/// said at once.
///
/// # Errors
///
/// [`ServeError`].
pub fn serve(
    config: Config,
    load: impl FnOnce() -> Result<Model, String> + Send + 'static,
    told: impl Fn(Told) + Send + Sync + 'static,
) -> Result<i32, ServeError> {
    if !config.address.ip().is_loopback() && config.keys.is_empty() && !config.insecure {
        return Err(ServeError::Open { address: config.address });
    }
    let tls = config.tls.as_ref().map(|(chain, key)| acceptor(chain, key)).transpose()?;
    let audit = config.audit.as_ref().map(|path| AuditLog::open(path, config.audit_key.clone()));
    let audit = audit.transpose()?;
    // The engine has the processors; this is only about sockets.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(config, tls, audit, load, told))
}

async fn run(
    config: Config,
    tls: Option<TlsAcceptor>,
    audit: Option<AuditLog>,
    load: impl FnOnce() -> Result<Model, String> + Send + 'static,
    told: impl Fn(Told) + Send + Sync + 'static,
) -> Result<i32, ServeError> {
    let Config { address, keys, limits, hosts, origins, audit_bodies, body_bytes, .. } = config;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    let app = Arc::new(App {
        model: std::sync::OnceLock::new(),
        access: Access::new(keys, limits, hosts, origins),
        audit,
        audit_bodies,
        metrics: Metrics::default(),
        body_bytes,
        client_time: config.client_time,
        stopping: AtomicBool::new(false),
        count: AtomicU64::new(0),
        begun: App::new_begun(),
    });
    log_life(&app, "start")?;
    told(Told::Listening(listener.local_addr()?));
    let mut signals = Signals::new()?;
    let loading = tokio::task::spawn_blocking(load);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(config.connections));
    tokio::pin!(loading);
    let mut is_loading = true;
    let signal = {
        let accepting = accept(&listener, &app, tls, &places, &graceful);
        tokio::pin!(accepting);
        loop {
            tokio::select! {
                signal = signals.next() => break signal,
                () = &mut accepting => {}
                loaded = &mut loading, if is_loading => {
                    is_loading = false;
                    let model = loaded.map_err(|error| ServeError::Model(error.to_string()))?;
                    let _ = app.model.set(Arc::new(model.map_err(ServeError::Model)?));
                    told(Told::Ready);
                }
            }
        }
    };
    told(Told::Stopping);
    app.stopping.store(true, Ordering::Relaxed);
    drop(listener);
    // Connections finish the request that they are at and close.
    let drained = graceful.shutdown();
    tokio::pin!(drained);
    let again = async {
        tokio::select! {
            _ = signals.next() => {}
            () = tokio::time::sleep(config.drain) => {}
        }
    };
    tokio::select! {
        () = &mut drained => {}
        () = again => {
            // Whoever is not done by now is told so by the end of the stream.
            if let Some(model) = app.model.get() {
                model.engine.cancel_all();
            }
            let _ = timeout(LAST_TIME, &mut drained).await;
        }
    }
    log_life(&app, "stop")?;
    if let Some(audit) = &app.audit {
        audit.sync()?;
    }
    Ok(signal)
}

/// A line of the log on the server itself.
fn log_life(app: &App, event: &str) -> Result<(), AuditError> {
    let Some(audit) = &app.audit else { return Ok(()) };
    let mut fields = Map::new();
    fields.insert("event".to_owned(), json!(event));
    fields.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    fields.insert("process".to_owned(), json!(std::process::id()));
    audit.append(fields)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> i32 {
        let _ = tokio::signal::ctrl_c().await;
        2
    }
}
