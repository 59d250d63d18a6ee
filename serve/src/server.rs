//! Sockets: connections with limits and timeouts, TLS, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Map, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::ServiceExt;

use crate::access::{Access, KeyLimits, KeyLine};
use crate::app::{App, Metrics};
use crate::audit::{AuditError, AuditLog};
use crate::model::Model;
use crate::routes::router;

/// Longest time for the headers of a request, and between two requests of a connection.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// Longest time that a client may take no byte of an answer.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// Most bytes of headers; hyper keeps them in one buffer.
const HEADER_BYTES: usize = 32 * 1024;
/// Most headers.
const HEADERS: usize = 64;
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
        body_time: Duration::from_secs(30),
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

/// Takes connections for ever.
async fn accept(
    listener: &TcpListener,
    app: &Arc<App>,
    tls: Option<TlsAcceptor>,
    places: &Arc<Semaphore>,
    graceful: &GracefulShutdown,
) {
    let router = router(app);
    loop {
        // Whoever finds no place waits in the system's queue.
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, as a rule.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEADER_BYTES)
            .max_headers(HEADERS)
            .half_close(false);
        let watcher = graceful.watcher();
        let tls = tls.clone();
        tokio::spawn(async move {
            let stream = Timed::new(stream);
            match tls {
                None => {
                    let served = builder.serve_connection(TokioIo::new(stream), service);
                    let _ = watcher.watch(served).await;
                }
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEADER_TIME, tls.accept(stream)).await {
                        let served = builder.serve_connection(TokioIo::new(stream), service);
                        let _ = watcher.watch(served).await;
                    }
                }
            }
            drop(place);
        });
    }
}

fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, ServeError> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |what: String| ServeError::Tls { path, what }
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault(chain)(error.to_string()))?;
    if certificates.is_empty() {
        return Err(fault(chain)("there is no certificate in it".to_owned()));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key)(error.to_string()))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|error| fault(chain)(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A stream whose other end must take what is written.
struct Timed<S> {
    stream: S,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    fn new(stream: S) -> Self {
        Self { stream, waiting: None }
    }

    fn timed<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let sleep = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIME)));
        match sleep.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.timed(context, polled)
    }
}
