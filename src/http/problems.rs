//! `GET /problems/{code}`: a page per error code; the `type` of each problem leads here. HTML for whoever asks for it, as
//! browsers do, JSON for everyone else.

use schemars::JsonSchema;
use serde::Serialize;
use warp::http::{HeaderValue, StatusCode, header};

use super::{
    error::{self, Answer, CODES, Code, Problem},
    negotiate::accepts_html,
    reply,
    request::Call,
};

/// Nothing is loaded and nothing runs; the one style is this.
const POLICY: &str = "default-src 'none'; style-src 'sha256-uKFdjFFktA0xWXXHyoUONytS9m1WPNARHETGHhclkao='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a code means.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Explanation {
    /// The code.
    code: &'static str,
    /// The status of answers with it.
    status: u16,
    /// In few words.
    title: &'static str,
    /// What happened, why, and what to do.
    help: &'static str,
    /// Whether the same request may succeed when it is sent again.
    retry: &'static str,
}

impl Explanation {
    fn of(code: &Code) -> Self {
        Self { code: code.name, status: code.status.as_u16(), title: code.title, help: code.help, retry: retry(code) }
    }
}

/// Whether it helps to send the same request again.
fn retry(code: &Code) -> &'static str {
    match code.status {
        _ if code == error::IDEMPOTENCY_IN_PROGRESS => "Yes, with the same Idempotency-Key, after Retry-After seconds.",
        _ if code == error::OUTCOME_UNKNOWN => "Yes, with the same Idempotency-Key: it has one effect at most.",
        _ if code == error::CONCURRENCY_CONFLICT || code == error::REQUEST_TIMEOUT => "Yes.",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "Yes, after Retry-After seconds.",
        StatusCode::INTERNAL_SERVER_ERROR => "Not before an operator has looked.",
        StatusCode::UNAUTHORIZED => "With a valid token.",
        StatusCode::FORBIDDEN => "Not by this caller.",
        _ => "Not unchanged: the answer would be the same.",
    }
}

/// What a code means and what to do.
pub(super) async fn show(call: Call) -> Answer {
    let name = call.decoded(0)?;
    let Some(code) = error::code(&name) else {
        let nearest = event_sourcing_actors::catalog::nearest(&name, CODES.iter().map(|code| code.name));
        let detail = error::hinted("there is no problem of this name".to_owned(), &nearest);
        return Err(Problem::new(error::NOT_FOUND, detail).with("nearest", nearest));
    };
    let explanation = Explanation::of(code);
    let mut response = if accepts_html(&call.headers) {
        let mut page = reply::bytes(page(&explanation), "text/html; charset=utf-8");
        page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        page
    } else {
        reply::json(&explanation)
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn page(explanation: &Explanation) -> String {
    let Explanation { code, status, title, help, retry } = explanation;
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{code}</title>\n\
         <style>{STYLE}</style>\n<main>\n<p><code>{code}</code> · status {status}</p>\n<h1>{title}</h1>\n<p>{help}</p>\n\
         <h2>Does it help to send the request again?</h2>\n<p>{retry}</p>\n\
         <p><a href=\"/docs\">API documentation</a></p>\n</main>\n</html>\n",
        help = escaped(help),
    )
}

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;\
color-scheme:light dark}h1{font-size:1.5rem}h2{font-size:1rem}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_allows_the_pages_own_style_and_no_other() {
        let digest = STANDARD.encode(Sha256::digest(STYLE));
        assert!(POLICY.contains(&format!("'sha256-{digest}'")), "style-src 'sha256-{digest}'");
    }

    #[test]
    fn every_page_says_enough_to_go_on() {
        for code in CODES {
            assert!(code.help.len() >= 40, "src/http/codes.rs: say more about {}", code.name);
            assert!(code.help.ends_with(['.', '}']), "{}", code.name);
            assert!(page(&Explanation::of(code)).contains(code.title));
        }
    }
}
