//! Cross-origin requests (Fetch, CORS): origins of a list may read answers. Credentials of browsers are never asked for, so
//! `*` harms nobody who has to prove who they are. Where nobody has to, pages of other origins are kept from changing things.

use warp::{
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    reply::Response,
};

/// What pages may send.
const ALLOWED_HEADERS: &str = "accept, authorization, content-type, es-as-of-position, es-min-position, idempotency-key, \
                               if-match, if-none-match, last-event-id, prefer, traceparent, x-causation-id, \
                               x-correlation-id, x-request-id";
/// What pages may read beside what every page may.
const EXPOSED_HEADERS: &str = "allow, etag, idempotency-replayed, location, preference-applied, ratelimit, \
                               ratelimit-policy, retry-after, traceparent, www-authenticate, x-causation-id, \
                               x-correlation-id, x-request-id";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Seconds for which a browser need not ask again.
const MAX_AGE: &str = "600";

/// What a request's origin is answered.
#[derive(Debug, Clone)]
pub(super) struct Origin(HeaderValue);

/// The origin of a request, if it is on the list.
pub(super) fn allowed(list: &[String], headers: &HeaderMap) -> Option<Origin> {
    if list.is_empty() {
        return None;
    }
    let sent = headers.get(header::ORIGIN)?;
    if list.iter().any(|origin| origin == "*") {
        return Some(Origin(HeaderValue::from_static("*")));
    }
    list.iter().any(|origin| origin.as_bytes() == sent.as_bytes()).then(|| Origin(sent.clone()))
}

/// Whether a browser sends, for a page of an origin that is not on the list, something that may change the state here. A page
/// may make it do so without asking, as long as no header of its own is needed. New browsers say what they do by
/// `Sec-Fetch-Site`, others by `Origin`, which must then name this host.
pub(super) fn is_foreign(list: &[String], method: &Method, headers: &HeaderMap) -> bool {
    let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || allowed(list, headers).is_some() {
        return false;
    }
    match headers.get(SEC_FETCH_SITE) {
        Some(site) => !matches!(site.as_bytes(), b"same-origin" | b"none"),
        None => headers.get(header::ORIGIN).is_some_and(|origin| !is_own(origin, headers)),
    }
}

/// Whether an origin is the one that was asked.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.as_bytes().strip_prefix(*scheme));
    !host.is_empty() && rest.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

/// Tells the browser that the page may read this answer; where there is a list, caches must know whom it was for.
pub(super) fn write(origin: Option<&Origin>, has_list: bool, response: &mut Response) {
    let headers = response.headers_mut();
    if has_list {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(Origin(origin)) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }
}

/// Adds to the answer to OPTIONS what a browser asks before it sends a request; `methods` are those of the path.
pub(super) fn preflight(origin: Option<&Origin>, request: &HeaderMap, methods: &HeaderValue, response: &mut Response) {
    if origin.is_none() || !request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return;
    }
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    let asked = HeaderName::from_static("access-control-request-headers");
    let vary = format!("{}, {asked}", header::ACCESS_CONTROL_REQUEST_METHOD);
    if let Ok(vary) = HeaderValue::from_str(&vary) {
        headers.append(header::VARY, vary);
    }
}
