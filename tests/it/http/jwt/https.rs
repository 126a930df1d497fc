//! Sets of keys over https: only from whom the machine's certificates, or those of `SSL_CERT_FILE`, vouch for.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::{elliptic::Curve, *};
use crate::support::server::Server;

/// An authority whose key is thrown away, and what it signed, for 127.0.0.1 alone, until 2126.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/http/jwt/tls/authority.pem");
const SERVER: &[u8] = include_bytes!("tls/server.pem");
const KEY: &[u8] = include_bytes!("tls/server.key.pem");

/// Answers every https request on a port of its own with this set; tells the port.
async fn serve(set: String) -> (u16, tokio_util::task::AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(SERVER).unwrap()],
            PrivateKeyDer::from_pem_slice(KEY).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Whoever does not trust this certificate hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4_096]).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", set.len());
            let _ = stream.write_all(format!("{head}{set}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, tokio_util::task::AbortOnDropHandle::new(task))
}

/// What the program answers to a token, when its set of keys is there and these certificates are trusted.
fn answered(url: &str, certificates: &Path, token: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("DATABASE_URL", "memory:"),
        ("ES__AUTH__MODE", "jwt"),
        ("ES__AUTH__JWT__JWKS_URL", url),
        ("ES__AUTH__JWT__ISSUER", "https://id.example"),
        ("ES__AUTH__JWT__AUDIENCE", "events"),
        ("SSL_CERT_FILE", certificates.to_str().unwrap()),
    ];
    let server = Server::start(folder.path(), &environment);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /version HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_over_https_counts_only_from_whom_a_trusted_certificate_vouches_for() {
    let curve = Curve::p256();
    let (port, _task) = serve(json!({ "keys": [curve.public()] }).to_string()).await;
    let token = curve.token(&claims(&json!({})));
    let folder = tempfile::tempdir().unwrap();
    // A certificate that vouches for nobody here: the server's own is no authority.
    let other = folder.path().join("other.pem");
    std::fs::write(&other, SERVER).unwrap();
    let trusted = Path::new(AUTHORITY).to_path_buf();
    let cases = [
        ("trusted", format!("https://127.0.0.1:{port}/keys"), trusted.clone(), "200"),
        ("of another name than it has", format!("https://localhost:{port}/keys"), trusted.clone(), "503"),
        ("of an authority that is not trusted", format!("https://127.0.0.1:{port}/keys"), other, "503"),
        ("asked without TLS", format!("http://127.0.0.1:{port}/keys"), trusted, "503"),
    ];
    for (what, url, certificates, expected) in cases {
        let token = token.clone();
        let answer = tokio::task::spawn_blocking(move || answered(&url, &certificates, &token)).await.unwrap();
        let status = answer.split(' ').nth(1);
        assert_eq!(status, Some(expected), "{what}: {answer}");
        assert_eq!(answer.contains("authentication-unavailable"), expected == "503", "{what}: {answer}");
    }
}
