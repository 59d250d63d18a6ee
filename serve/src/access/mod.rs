//! Who may ask: keys with roles, hosts, origins, limits.

mod keys;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use crate::audit::sha256;
use crate::error::Refusal;

pub use keys::{KeyError, KeyLine, Role, read_keys};

/// Limits of those whose key has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLimits {
    /// Requests a minute.
    pub requests_per_minute: u32,
    /// Requests at once.
    pub concurrent: usize,
}

/// Somebody who asks.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) role: Role,
    limits: KeyLimits,
    /// Requests that are left in this minute, and when that was so.
    left: Mutex<(f64, Instant)>,
    running: AtomicUsize,
}

/// A request under way, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<User>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl User {
    fn new(name: &str, role: Role, limits: KeyLimits) -> Self {
        Self {
            name: name.to_owned(),
            role,
            limits,
            left: Mutex::new((f64::from(limits.requests_per_minute), Instant::now())),
            running: AtomicUsize::new(0),
        }
    }

    /// Takes a place, or says when to come again.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Permit, Refusal> {
        let KeyLimits { requests_per_minute, concurrent } = self.limits;
        let refusal = |message: String, seconds| Refusal {
            retry_after: Some(seconds),
            ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, message)
        };
        let before = self.running.fetch_add(1, Ordering::AcqRel);
        let permit = Permit(Arc::clone(self));
        if before >= concurrent {
            let message = format!("`{}` has {concurrent} requests under way already", self.name);
            return Err(refusal(message, 1));
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let most = f64::from(requests_per_minute);
        let each = most / 60.0;
        left.0 = (left.0 + left.1.elapsed().as_secs_f64() * each).min(most);
        left.1 = Instant::now();
        if left.0 < 1.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a minute at most"
            )]
            let seconds = ((1.0 - left.0) / each).ceil().clamp(1.0, 60.0) as u64;
            let message = format!("`{}` may ask {requests_per_minute} times a minute", self.name);
            return Err(refusal(message, seconds));
        }
        left.0 -= 1.0;
        Ok(permit)
    }
}

/// All rules.
#[derive(Debug)]
pub(crate) struct Access {
    keys: Vec<(KeyLine, Arc<User>)>,
    /// Who asks where no key is needed.
    anybody: Arc<User>,
    /// Names that a request may call this server, beside IP addresses and `localhost`.
    hosts: Vec<String>,
    /// Origins of pages that may ask, beside the server's own.
    origins: Vec<String>,
}

impl Access {
    pub(crate) fn new(
        keys: Vec<KeyLine>,
        limits: KeyLimits,
        hosts: Vec<String>,
        origins: Vec<String>,
    ) -> Self {
        let user = |key: KeyLine| {
            let own = KeyLimits {
                requests_per_minute: key.requests_per_minute.unwrap_or(limits.requests_per_minute),
                concurrent: key.concurrent.unwrap_or(limits.concurrent),
            };
            let user = Arc::new(User::new(&key.user, key.role, own));
            (key, user)
        };
        let keys = keys.into_iter().map(user).collect();
        let anybody = Arc::new(User::new(
            "anonymous",
            Role::Admin,
            KeyLimits { requests_per_minute: u32::MAX, concurrent: usize::MAX },
        ));
        Self { keys, anybody, hosts, origins }
    }

    /// Refuses names that are not this server's: a page elsewhere may have let its own name point
    /// here (DNS rebinding). An IP address cannot be such a name.
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let Some(host) = host else {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "the header `Host` is needed"));
        };
        let name = host_name(host);
        let own = name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
        if own {
            return Ok(());
        }
        let message =
            format!("`Host: {host}` is no name of this server; `--host-name` gives it one");
        Err(Refusal::new(StatusCode::FORBIDDEN, message))
    }

    /// Refuses what pages of other origins ask.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let host =
            headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let own = ["http://", "https://"]
            .iter()
            .any(|scheme| origin.strip_prefix(scheme).is_some_and(|rest| rest == host));
        if own || self.origins.iter().any(|known| known == origin) {
            return Ok(());
        }
        let message = format!("pages of `{origin}` may not ask here");
        Err(Refusal::new(StatusCode::FORBIDDEN, message))
    }

    /// Whose key a request has. Takes as long for a wrong key as for a right one.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Result<Arc<User>, Refusal> {
        if self.keys.is_empty() {
            return Ok(Arc::clone(&self.anybody));
        }
        let Some(given) = given_key(headers) else {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "a key is needed: `Authorization: Bearer KEY` or `x-api-key: KEY`",
            ));
        };
        let mut found = None;
        for (key, user) in &self.keys {
            let hash = sha256(format!("{}{given}", key.salt).as_bytes());
            if bool::from(hash.as_bytes().ct_eq(key.sha256.as_bytes())) {
                found = Some(Arc::clone(user));
            }
        }
        found.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "this key is not known"))
    }

    /// How many requests each user has under way.
    pub(crate) fn running(&self) -> BTreeMap<&str, usize> {
        let running = |user: &Arc<User>| user.running.load(Ordering::Relaxed);
        self.keys.iter().map(|(_, user)| (user.name.as_str(), running(user))).collect()
    }
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// The key of a request: a bearer's, `x-api-key`, or a browser's password.
fn given_key(headers: &HeaderMap) -> Option<String> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok().map(str::to_owned);
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(base64(rest.trim())?).ok()?;
        return pair.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

/// The bytes that base 64 stands for.
fn base64(text: &str) -> Option<Vec<u8>> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(u32::from(letter - b'A')),
        b'a'..=b'z' => Some(u32::from(letter - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(letter - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for letter in text.trim_end_matches('=').bytes() {
        bits = (bits << 6 | value(letter)?) & 0x00ff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::http::{HeaderMap, HeaderValue};

    use super::{Access, KeyLimits, KeyLine, Role, base64};

    const LIMITS: KeyLimits = KeyLimits { requests_per_minute: 3, concurrent: 2 };

    fn access() -> Access {
        let keys = vec![
            KeyLine::new("anna", Role::Admin, "salt", "key of anna"),
            KeyLine::new("ben", Role::User, "pepper", "key of ben"),
        ];
        let hosts = vec!["gpu.example".to_owned()];
        Access::new(keys, LIMITS, hosts, vec!["https://chat.example".to_owned()])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn a_key_names_its_user_however_it_is_sent() {
        let access = access();
        let user =
            |name, value: &str| access.user(&headers(&[(name, value)])).map(|u| u.name.clone());
        assert_eq!(user("authorization", "Bearer key of anna").unwrap(), "anna");
        assert_eq!(user("x-api-key", "key of ben").unwrap(), "ben");
        // `:key of ben` in base 64.
        assert_eq!(user("authorization", "Basic OmtleSBvZiBiZW4=").unwrap(), "ben");
        assert_eq!(user("authorization", "Bearer key of ann").unwrap_err().status, 401);
        assert_eq!(user("authorization", "Basic !").unwrap_err().status, 401);
        assert_eq!(access.user(&HeaderMap::new()).unwrap_err().status, 401);
        assert_eq!(base64("YQ==").unwrap(), b"a");
    }

    #[test]
    fn only_names_of_this_server_and_its_own_pages_are_served() {
        let access = access();
        let host = |host| access.check_host(&headers(&[("host", host)])).is_ok();
        for fine in ["localhost:8000", "127.0.0.1", "[::1]:80", "192.168.0.7:1", "GPU.example"] {
            assert!(host(fine), "{fine}");
        }
        for foreign in ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", ""]
        {
            assert!(!host(foreign), "{foreign}");
        }
        let origin = |origin| {
            access.check_origin(&headers(&[("host", "localhost:80"), ("origin", origin)])).is_ok()
        };
        assert!(origin("http://localhost:80") && origin("https://chat.example"));
        for foreign in ["http://localhost:81", "https://evil.example", "null", "localhost:80"] {
            assert!(!origin(foreign), "{foreign}");
        }
    }

    #[test]
    fn too_many_at_once_and_too_many_a_minute_come_again_later() {
        let access = access();
        let ben = access.user(&headers(&[("x-api-key", "key of ben")])).unwrap();
        let (one, two) = (ben.enter().unwrap(), ben.enter().unwrap());
        let refusal = ben.enter().unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.retry_after), (429, Some(1)));
        drop((one, two));
        drop(ben.enter().unwrap());
        let refusal = ben.enter().unwrap_err();
        assert_eq!(refusal.message, "`ben` may ask 3 times a minute");
        assert!((1..=20).contains(&refusal.retry_after.unwrap()));
        assert_eq!(Arc::clone(&ben).role, Role::User);
        assert_eq!(access.running()["ben"], 0);
    }
}
