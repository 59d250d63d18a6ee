//! The way to the endpoint and back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use ureq::http::Uri;

use super::budget::{Budget, Purse, Spent};
use super::ledger::Known;
use super::request::{Answer, Read, Request, Usage, read};
use super::{EndpointError, Ledger};

/// Longest answer in bytes.
const MOST_BYTES: u64 = 64 << 20;
/// The longest wait between two attempts.
const MOST_WAIT: Duration = Duration::from_mins(1);
/// Characters of an error's words.
const SAID: usize = 300;

/// How the endpoint is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// What may be spent.
    pub budget: Budget,
    /// Attempts at a request that is refused for the moment (429, 500 to 504).
    pub attempts: u32,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The first wait after a refusal; it doubles with every further one.
    pub wait: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            budget: Budget::default(),
            attempts: 8,
            timeout: Duration::from_mins(10),
            wait: Duration::from_secs(1),
        }
    }
}

/// Asks an endpoint, from any number of threads.
pub struct Client {
    agent: ureq::Agent,
    base: String,
    host: String,
    key: Option<String>,
    options: ClientOptions,
    ledger: Ledger,
    purse: Purse,
    /// Nobody sends before this: a refusal of one holds back all.
    not_before: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// How one attempt ended.
enum Attempt {
    Answered(Answer),
    /// Refused for the moment; how long to wait, if the endpoint says.
    Later {
        wait: Option<Duration>,
        error: EndpointError,
    },
    Failed(EndpointError),
}

impl Client {
    /// A client of the endpoint at `base`, as in `http://127.0.0.1:8080/v1`.
    pub fn new(
        base: &str,
        key: Option<String>,
        ledger: Ledger,
        options: ClientOptions,
    ) -> Result<Self, EndpointError> {
        let base = base.trim_end_matches('/').to_owned();
        let host = host(&base)?;
        let key = key.filter(|key| !key.is_empty());
        if key.as_ref().is_some_and(|key| key.bytes().any(|byte| !(0x21..0x7F).contains(&byte))) {
            let problem = "the key has characters that cannot be sent";
            return Err(EndpointError::Address { url: base, problem });
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_global(Some(options.timeout))
            .user_agent(concat!("ft/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let purse = Purse::new(options.budget, ledger.spent());
        let not_before = Mutex::new(None);
        Ok(Self { agent, base, host, key, options, ledger, purse, not_before })
    }

    /// The host, with its port if it has one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What was spent, by earlier runs too.
    pub fn spent(&self) -> Spent {
        self.purse.spent()
    }

    /// The answers to some requests, in their order, with so many on their way at once.
    pub fn ask_all(
        &self,
        requests: &[Request],
        concurrency: usize,
    ) -> Vec<Result<Answer, EndpointError>> {
        let next = AtomicUsize::new(0);
        let slots: Vec<Mutex<Option<Result<Answer, EndpointError>>>> =
            requests.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..concurrency.clamp(1, requests.len().max(1)) {
                scope.spawn(|| {
                    while let Some((request, slot)) = {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        requests.get(at).zip(slots.get(at))
                    } {
                        let answer = self.ask(request);
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                    }
                });
            }
        });
        let taken =
            slots.into_iter().map(|it| it.into_inner().unwrap_or_else(PoisonError::into_inner));
        taken.map(|it| it.unwrap_or(Err(EndpointError::LostEarlier))).collect()
    }

    /// The answer to a request: from the ledger, or from the endpoint.
    pub fn ask(&self, request: &Request) -> Result<Answer, EndpointError> {
        let hash = request.hash(&self.base);
        match self.ledger.known(&hash) {
            Some(Known::Answered { text, finish, at, .. }) => {
                let cut = finish.as_deref() == Some("length");
                return Ok(Answer { text, cut, request: hash, at, remembered: true });
            }
            Some(Known::Sent(_)) => return Err(EndpointError::LostEarlier),
            None => {}
        }
        let most = request.most();
        self.purse.reserve(most.spent()).map_err(|said| EndpointError::Budget { said })?;
        let answered = self.send(request, &hash, most);
        match &answered {
            Ok((_, usage)) => self.purse.settle(most.spent(), usage.spent()),
            Err(EndpointError::Lost { .. } | EndpointError::Answer { .. }) => {
                self.purse.settle(most.spent(), most.spent());
            }
            Err(_) => self.purse.settle(most.spent(), Spent::default()),
        }
        answered.map(|(answer, _)| answer)
    }

    fn send(
        &self,
        request: &Request,
        hash: &str,
        most: Usage,
    ) -> Result<(Answer, Usage), EndpointError> {
        let mut wait = self.options.wait;
        let mut attempt = 1;
        loop {
            self.hold();
            self.ledger.sending(hash, most)?;
            match self.attempt(request, hash) {
                Attempt::Answered(answer) => {
                    let usage = self.usage(&answer, most);
                    return Ok((answer, usage));
                }
                Attempt::Failed(error) => {
                    if !matches!(error, EndpointError::Lost { .. } | EndpointError::Answer { .. }) {
                        self.ledger.refused(hash)?;
                    }
                    return Err(error);
                }
                Attempt::Later { wait: asked, error } => {
                    self.ledger.refused(hash)?;
                    if attempt >= self.options.attempts {
                        return Err(error);
                    }
                    attempt += 1;
                    let until = Instant::now() + asked.unwrap_or(wait).min(MOST_WAIT);
                    wait = (wait * 2).min(MOST_WAIT);
                    let mut not_before =
                        self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
                    *not_before = Some(not_before.map_or(until, |other| other.max(until)));
                }
            }
        }
    }

    fn usage(&self, answer: &Answer, most: Usage) -> Usage {
        match self.ledger.known(&answer.request) {
            Some(Known::Answered { usage, .. }) => usage,
            _ => most,
        }
    }

    /// Waits as long as the endpoint wants to be left alone.
    fn hold(&self) {
        loop {
            let until = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
            match until.and_then(|until| until.checked_duration_since(Instant::now())) {
                Some(rest) if !rest.is_zero() => std::thread::sleep(rest),
                _ => return,
            }
        }
    }

    fn attempt(&self, request: &Request, hash: &str) -> Attempt {
        let path = request.path.name();
        let mut call = self.agent.post(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            call = call.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = match call.send_json(&request.body) {
            Ok(response) => response,
            Err(error) => return Attempt::Failed(self.unsent(&error)),
        };
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let wait = after.and_then(|text| text.trim().parse::<f64>().ok());
        // Seconds that anyone may have written.
        let wait = wait.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(MOST_WAIT));
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string();
        if !(200..300).contains(&status) {
            let said = self.said(&text.unwrap_or_default());
            let error = EndpointError::Status { host: self.host.clone(), path, status, said };
            return match status {
                408 | 425 | 429 | 500 | 502 | 503 | 504 => Attempt::Later { wait, error },
                _ => Attempt::Failed(error),
            };
        }
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                let problem = error.to_string();
                return Attempt::Failed(EndpointError::Lost { host: self.host.clone(), problem });
            }
        };
        let read = read(&text, request.path).map_err(|problem| EndpointError::Answer {
            host: self.host.clone(),
            path,
            problem,
        });
        match read {
            Err(error) => Attempt::Failed(error),
            Ok(Read { text, finish, usage }) => {
                let usage = usage.unwrap_or_else(|| Usage {
                    // A server that does not count: as if every four bytes were a token.
                    completion_tokens: (text.len() as u64).div_ceil(4),
                    ..request.most()
                });
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let at = now.map_or(0, |since| since.as_secs());
                if let Err(error) = self.ledger.answered(hash, &text, finish.as_deref(), usage, at)
                {
                    return Attempt::Failed(error);
                }
                let cut = finish.as_deref() == Some("length");
                let request = hash.to_owned();
                Attempt::Answered(Answer { text, cut, request, at, remembered: false })
            }
        }
    }

    /// An error before there was any answer: did the request arrive?
    fn unsent(&self, error: &ureq::Error) -> EndpointError {
        let (host, problem) = (self.host.clone(), error.to_string());
        let never = match error {
            ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(which) => {
                matches!(which, ureq::Timeout::Connect | ureq::Timeout::Resolve)
            }
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::Tls(_)
            | ureq::Error::Rustls(_)
            | ureq::Error::InvalidProxyUrl => true,
            _ => false,
        };
        if never {
            EndpointError::Connect { host, problem }
        } else {
            EndpointError::Lost { host, problem }
        }
    }

    /// The words of an error, without the key if a server repeats it.
    fn said(&self, text: &str) -> String {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let message = [value.pointer("/error/message"), value.get("error"), value.get("message")]
            .into_iter()
            .find_map(|it| it?.as_str())
            .unwrap_or(text);
        let said: String = message.chars().take(SAID).collect();
        match &self.key {
            Some(key) => said.replace(key.as_str(), "(key)"),
            None => said,
        }
    }
}

/// The host of an address, which must be one.
fn host(base: &str) -> Result<String, EndpointError> {
    let uri: Option<Uri> = base.parse().ok();
    let authority = uri.as_ref().and_then(Uri::authority).map_or("", |it| it.as_str());
    let scheme = uri.as_ref().and_then(Uri::scheme_str).unwrap_or_default();
    // A password must not be repeated.
    let shown = authority
        .rsplit_once('@')
        .map_or(base.to_owned(), |(_, host)| format!("{scheme}://…@{host}"));
    let problem = match () {
        () if !matches!(scheme, "http" | "https") => {
            "it does not begin with `http://` or `https://`"
        }
        () if authority.is_empty() => "it names no host",
        () if authority.contains('@') => "keys come from the environment, not from the address",
        () if base.contains(['?', '#']) => "it has a query",
        () => return Ok(authority.to_owned()),
    };
    Err(EndpointError::Address { url: shown, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_password_or_without_a_host_is_refused() {
        assert_eq!(host("http://127.0.0.1:8080/v1").unwrap(), "127.0.0.1:8080");
        let said = host("http://me:secret@host/v1").unwrap_err().to_string();
        assert!(said.contains("keys come from the environment") && !said.contains("secret"));
        for wrong in ["localhost:8080", "ftp://host/v1", "", "http://h/v1?key=1"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
