//! TLS. The certificate and its key lie beside this file and are of no other use.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::server::{Server, place};

#[test]
fn a_certificate_makes_the_server_speak_tls_and_nothing_else() {
    let place = place();
    place.write("certificate.pem", include_str!("certificate.pem"));
    place.write("key.pem", include_str!("key.pem"));
    let more = ["--tls-cert", "certificate.pem", "--tls-key", "key.pem", "--client-timeout", "1"];
    let server = Server::start(&place, &more);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(include_bytes!("certificate.pem")).unwrap()).unwrap();
    let config =
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from("localhost").unwrap();
    let ask = || {
        let connection = ClientConnection::new(Arc::clone(&config), name.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, server.connect());
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    assert!(ask().starts_with("HTTP/1.1 200"));
    // Plain words, and no words at all: neither holds a place for long.
    assert_eq!(server.get("/health").status, 0);
    let mut silent = server.connect();
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0; 8]).unwrap_or(0), 0);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(ask().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_certificate_that_is_none_is_refused_by_its_file() {
    let place = place();
    place.write("key.pem", include_str!("key.pem"));
    place.write("empty.pem", "");
    let start = |certificate: &str, key: &str| {
        place.refused(&[
            "serve",
            "model",
            "--port",
            "0",
            "--tls-cert",
            certificate,
            "--tls-key",
            key,
        ])
    };
    assert!(start("empty.pem", "key.pem").contains("`empty.pem`"));
    assert!(start("missing.pem", "key.pem").contains("`missing.pem`"));
    place.write("certificate.pem", include_str!("certificate.pem"));
    assert!(start("certificate.pem", "empty.pem").contains("`empty.pem`"));
}
