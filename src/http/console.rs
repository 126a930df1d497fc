//! `GET /console`: pages for people, in the binary, over the public HTTP API alone.
//!
//! This module owns how the pages are handed out: media types, entity tags, compression, and the policy that keeps
//! everything foreign out of them. What they show is the business of the files in `console/assets`, which know no path
//! of this server but those of its API. Files are addressed below a digest of all of them, so that a browser may keep
//! them for ever and never mixes two releases.

mod assets;

use std::{io::Write, sync::LazyLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use warp::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

use self::assets::FILES;
use super::{
    error::{self, Answer, Problem},
    reply,
    request::Call,
};

/// No script, style, font, frame or connection of another origin, nothing inline, and no text that becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// What the page holds in place of the release.
const RELEASE_MARK: &str = "{release}";
const PAGE: &str = include_str!("console/assets/index.html");

static CONSOLE: LazyLock<Console> = LazyLock::new(Console::new);

/// Everything as it is sent.
struct Console {
    /// Names this set of files.
    release: String,
    page: Ready,
    files: Vec<(&'static str, Ready)>,
}

/// One file, plain and compressed.
struct Ready {
    media_type: &'static str,
    tag: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
}

impl Console {
    fn new() -> Self {
        let mut digest = Sha256::new_with_prefix(PAGE);
        for (name, content) in FILES {
            for part in [name.as_bytes(), content] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        let release = hex::encode(digest.finalize())[..16].to_owned();
        let page = Ready::new("index.html", PAGE.replace(RELEASE_MARK, &release).into());
        let files =
            FILES.iter().map(|(name, content)| (*name, Ready::new(name, Bytes::from_static(content)))).collect();
        Self { release, page, files }
    }
}

impl Ready {
    fn new(name: &str, plain: Bytes) -> Self {
        let tag = format!("\"{}\"", &hex::encode(Sha256::digest(&plain))[..32]);
        let tag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""));
        Self { media_type: media_type(name), tag, gzip: compressed(&plain), plain }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let own = self.tag.to_str().unwrap_or_default();
        let is_known = tags
            .flat_map(|tags| tags.split(',').map(str::trim))
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own);
        let mut response = match (is_known, takes_gzip(headers)) {
            (true, _) => reply::empty(StatusCode::NOT_MODIFIED),
            (false, false) => reply::bytes(self.plain.clone(), self.media_type),
            (false, true) => {
                let mut response = reply::bytes(self.gzip.clone(), self.media_type);
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                response
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.tag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        guard(headers);
        response
    }
}

/// The page; everything else is behind `#`.
pub(super) async fn page(call: Call) -> Answer {
    Ok(CONSOLE.page.answer(&call.headers))
}

/// `/console/` is where people and links end up too.
pub(super) async fn with_slash(_: Call) -> Answer {
    let mut response = reply::empty(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("../console"));
    Ok(response)
}

/// A file of this release.
pub(super) async fn asset(call: Call) -> Answer {
    let (release, folder, name) = (call.decoded(0)?, call.decoded(1)?, call.decoded(2)?);
    let name = format!("{folder}/{name}");
    let found = CONSOLE.files.iter().find(|(known, _)| *known == name);
    let Some((_, file)) = found.filter(|_| release == CONSOLE.release) else {
        let detail = "the console of this server has no such file; it may be of another release: load /console again";
        return Err(Problem::new(error::NOT_FOUND, detail));
    };
    let mut response = file.answer(&call.headers);
    response.headers_mut().insert(header::CACHE_CONTROL, FOR_EVER);
    Ok(response)
}

fn guard(headers: &mut HeaderMap) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        is_gzip && weight.is_ok_and(|weight| weight > 0.0)
    })
}

fn compressed(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
