//! Heads that are no HTTP. hyper answers them by itself, with a bare status and before any route is asked; here such an
//! answer is known on its way out, by lacking the ids that every answer of ours carries, and becomes a problem.

use std::fmt::Write;

use warp::http::{HeaderMap, header};

use super::{
    error::{HEAD_TOO_LARGE, MALFORMED_HEADER, Problem, URI_TOO_LONG},
    request::Ids,
};

/// Longest bare answer that is looked at: hyper's have a status, a length and a date.
const BARE_BYTES_MAX: usize = 256;

/// The problem to be written instead of these bytes, if they are a bare refusal of hyper's.
pub(super) fn problem_instead(answer: &[u8]) -> Option<Vec<u8>> {
    if answer.len() > BARE_BYTES_MAX || !answer.starts_with(b"HTTP/1.") || !answer.ends_with(b"\r\n\r\n") {
        return None;
    }
    let text = std::str::from_utf8(answer).ok()?;
    if text.to_ascii_lowercase().contains("x-request-id:") {
        return None;
    }
    let (code, detail) = match text.split(' ').nth(1)? {
        "400" => (MALFORMED_HEADER, "the head of the request is not HTTP/1.1"),
        "414" => (URI_TOO_LONG, "the path and query of the request are longer than this server reads"),
        "431" => (HEAD_TOO_LARGE, "the head of the request is larger than this server reads, or has too many headers"),
        _ => return None,
    };
    let ids = Ids::of(&HeaderMap::new());
    let body = Problem::new(code, detail).document("", &ids);
    let mut headers = HeaderMap::new();
    ids.write(&mut headers);
    let mut head = format!(
        "HTTP/1.1 {}\r\n{}: application/problem+json\r\n{}: {}\r\n{}: close\r\n{}: nosniff\r\n{}: no-cache\r\n",
        code.status,
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        body.len(),
        header::CONNECTION,
        header::X_CONTENT_TYPE_OPTIONS,
        header::CACHE_CONTROL,
    );
    for (name, value) in &headers {
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    head.push_str("\r\n");
    Some([head.into_bytes(), body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_replaced() {
        let bare = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: Thu, 26 Nov 2026 14:00:00 GMT\r\n\r\n";
        let problem = String::from_utf8(problem_instead(bare).unwrap()).unwrap();
        assert!(
            problem.starts_with("HTTP/1.1 400 Bad Request\r\n") && problem.contains("\"malformed-header\""),
            "{problem}"
        );
        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\nx-request-id: 1\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nab",
            b"{\"HTTP/1.1 400\":1}\r\n\r\n",
            b"",
        ] {
            assert_eq!(problem_instead(other), None, "{:?}", String::from_utf8_lossy(other));
        }
    }
}
