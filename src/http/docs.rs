//! `GET /docs`: the OpenAPI document as a page. Three files of our own, no build step, nothing from anywhere else; without
//! JavaScript the page still leads to the document.

use warp::{
    http::{HeaderValue, header},
    reply::Response,
};

use super::{
    error::{self, Answer, Problem},
    reply,
    request::Call,
};

/// Scripts and styles are files of this server, and nothing but this server is asked.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Name, media type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("docs.js", "text/javascript; charset=utf-8", include_str!("docs/docs.js")),
    ("docs.css", "text/css; charset=utf-8", include_str!("docs/docs.css")),
];

/// The page.
pub(super) async fn show(_: Call) -> Answer {
    Ok(strict(reply::bytes(include_str!("docs/docs.html"), "text/html; charset=utf-8")))
}

/// Its script and its style.
pub(super) async fn file(call: Call) -> Answer {
    let name = call.decoded(0)?;
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, media, content)) => Ok(strict(reply::bytes(*content, media))),
        None => Err(Problem::new(error::NOT_FOUND, "the page has no such file; GET /docs is the page")),
    }
}

fn strict(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        let page = include_str!("docs/docs.html");
        let all: Vec<&str> = super::FILES.iter().map(|(.., content)| *content).chain([page]).collect();
        assert!(all.iter().map(|content| content.len()).sum::<usize>() <= 40_000);
        for content in all {
            for word in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!content.contains(word), "the page must not hold {word}");
            }
        }
        for inline in ["onclick", "style=", "<style", "<script>"] {
            assert!(!page.contains(inline), "the policy forbids {inline}");
        }
    }
}
