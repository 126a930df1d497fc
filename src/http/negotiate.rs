//! Which media type an answer gets (`Accept`, RFC 9110, 12.5.1).

use warp::http::{HeaderMap, header};

use super::error::{self, Problem};

/// A media type of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// One document.
    Json,
    /// One event per line.
    Lines,
    /// Server-sent events.
    Stream,
}

impl Media {
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Stream => "text/event-stream",
        }
    }
}

/// The best of `offered` (the server's favourite first).
///
/// # Errors
/// `not-acceptable`.
pub(super) fn negotiate(headers: &HeaderMap, offered: &[Media]) -> Result<Media, Box<Problem>> {
    let ranges: Vec<(String, f32)> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|range| !range.trim().is_empty())
        .map(range)
        .collect();
    if ranges.is_empty() {
        return Ok(offered.first().copied().unwrap_or(Media::Json));
    }
    let mut best: Option<(Media, f32)> = None;
    for media in offered.iter().copied() {
        let quality = quality(&ranges, media.name());
        if quality > best.map_or(0.0, |(_, quality)| quality) {
            best = Some((media, quality));
        }
    }
    best.map(|(media, _)| media).ok_or_else(|| {
        let names: Vec<&str> = offered.iter().map(|media| media.name()).collect();
        Problem::new(error::NOT_ACCEPTABLE, format!("this route answers {}", names.join(", "))).with("available", names)
    })
}

/// Whether the client names HTML, as browsers do, and wants JSON no more than that.
pub(super) fn accepts_html(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<(String, f32)> = texts.flat_map(|text| text.split(',')).map(range).collect();
    let html = ranges.iter().find(|(name, _)| name == "text/html").map_or(0.0, |(_, quality)| *quality);
    let json = ranges.iter().find(|(name, _)| name == Media::Json.name()).map_or(0.0, |(_, quality)| *quality);
    html > 0.0 && html >= json
}

fn range(text: &str) -> (String, f32) {
    let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|parameter| parameter.strip_prefix("q=").map(|q| q.parse().unwrap_or(1.0)));
    (name, quality.unwrap_or(1.0))
}

/// The most specific range decides.
fn quality(ranges: &[(String, f32)], name: &str) -> f32 {
    let group = name.split_once('/').map_or(String::new(), |(group, _)| format!("{group}/*"));
    [name, &group, "*/*"]
        .iter()
        .find_map(|wanted| ranges.iter().find(|(range, _)| range == wanted))
        .map_or(0.0, |(_, quality)| *quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_offer_wins() {
        let all = [Media::Json, Media::Lines, Media::Stream];
        let chosen = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            negotiate(&headers, &all).ok()
        };
        assert_eq!(chosen("*/*"), Some(Media::Json));
        assert_eq!(chosen("text/event-stream"), Some(Media::Stream));
        assert_eq!(chosen("text/*, application/json;q=0.5"), Some(Media::Stream));
        assert_eq!(chosen("application/x-ndjson;q=0.9, application/json;q=0.5"), Some(Media::Lines));
        assert_eq!(chosen("application/json;q=0, */*"), Some(Media::Lines));
        assert_eq!(chosen("image/png"), None);
    }
}
