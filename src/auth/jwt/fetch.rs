//! A key set from a file or over HTTP: bounded in time and size, no redirects, nothing sent but the request.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::KeySource;

/// Time of a fetch at most.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// Longest set.
const SET_BYTES_MAX: usize = 1 << 20;

/// The set's text, or why there is none: a sentence without the URL, which may hold secrets.
pub(super) async fn fetch(source: &KeySource) -> Result<Bytes, String> {
    let fetch = async {
        match source {
            KeySource::File(path) => {
                let length = tokio::fs::metadata(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
                if length.len() > SET_BYTES_MAX as u64 {
                    return Err(format!("{} is longer than {SET_BYTES_MAX} bytes", path.display()));
                }
                let text = tokio::fs::read(path).await;
                text.map(Bytes::from).map_err(|error| format!("{}: {error}", path.display()))
            }
            KeySource::Url(url) => get(url).await,
        }
    };
    let late = || format!("no key set came within {} s", FETCH_MAX.as_secs());
    tokio::time::timeout(FETCH_MAX, fetch).await.unwrap_or_else(|_| Err(late()))
}

async fn get(url: &str) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let host = uri.host().ok_or("the URL has no host")?.to_owned();
    let is_secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    // Brackets are the URL's, not the address's.
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((bare.as_str(), port)).await;
    let stream = stream.map_err(|error| format!("{host}:{port} cannot be reached: {error}"))?;
    if !is_secure {
        return exchange(stream, &uri, &host).await;
    }
    let name = ServerName::try_from(bare).map_err(|_| format!("{host} is no name for TLS"))?;
    let stream = connector().await?.connect(name, stream).await;
    exchange(stream.map_err(|error| format!("no TLS with {host}: {error}"))?, &uri, &host).await
}

/// With the certificates that the machine trusts; `SSL_CERT_FILE` names others.
async fn connector() -> Result<TlsConnector, String> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.map_err(|error| error.to_string())?.certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

async fn exchange<S>(stream: S, uri: &Uri, host: &str) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &dyn std::fmt::Display| format!("{host} does not answer: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let authority = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let request = Request::get(path).header(header::HOST, authority).header(header::ACCEPT, "application/json");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        if !answer.status().is_success() {
            return Err(format!("{host} answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), SET_BYTES_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| broken(&error))
    };
    // What goes wrong with the connection shows in the exchange, and both end here.
    tokio::select! {
        text = exchange => text,
        () = async { let _ = connection.await; std::future::pending().await } => Err("it hung up".to_owned()),
    }
}
