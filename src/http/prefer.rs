//! What a client would like, without insisting (`Prefer`, RFC 7240).

use std::time::Duration;

use warp::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::Answer;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The preferences this server knows. Others, and values it cannot read, are passed over: that is the RFC's rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// `wait`: how long the client has patience, in whole seconds.
    pub wait: Option<Duration>,
    /// `handling`: whether an answer that is less than asked for will do.
    pub is_lenient: Option<bool>,
}

impl Preferences {
    /// Reads them; of one that is repeated the first counts.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut preferences = Self::default();
        let texts = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        for preference in texts.flat_map(|text| parts(text, ',')) {
            // What follows a semicolon are parameters; none is known.
            let Some(preference) = parts(preference, ';').next() else { continue };
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "wait" if preferences.wait.is_none() => preferences.wait = seconds(value),
                "handling" if preferences.is_lenient.is_none() => {
                    preferences.is_lenient = match value.to_ascii_lowercase().as_str() {
                        "lenient" => Some(true),
                        "strict" => Some(false),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        preferences
    }

    /// `Preference-Applied`: what was heeded.
    pub fn applied(self) -> Option<(HeaderName, HeaderValue)> {
        let wait = self.wait.map(|wait| format!("wait={}", wait.as_secs()));
        let handling =
            self.is_lenient.map(|is_lenient| if is_lenient { "handling=lenient" } else { "handling=strict" });
        let all: Vec<String> = wait.into_iter().chain(handling.map(str::to_owned)).collect();
        if all.is_empty() {
            return None;
        }
        Some((PREFERENCE_APPLIED, HeaderValue::from_str(&all.join(", ")).ok()?))
    }

    /// The same on an answer, whatever it is.
    pub fn told(self, answer: Answer) -> Answer {
        let Some((name, value)) = self.applied() else { return answer };
        match answer {
            Ok(mut response) => {
                response.headers_mut().insert(name, value);
                Ok(response)
            }
            Err(problem) => Err(problem.header(name, value)),
        }
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number beyond all bounds is as good as the largest: the wait has a bound of its own.
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))))
}

/// The parts of a header between separators, quoted text left whole.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match character {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            _ => {}
        }
        character == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Preferences {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(PREFER, text.parse().unwrap());
        }
        Preferences::of(&headers)
    }

    #[test]
    fn preferences_are_read_as_the_rfc_says() {
        let both = Preferences { wait: Some(Duration::from_secs(2)), is_lenient: Some(true) };
        for texts in [
            &["wait=2, handling=lenient"][..],
            &["wait=2", "handling=lenient"],
            &["Wait = \"2\" ; x=y, HANDLING=Lenient, wait=3"],
            &["respond-async, foo=\"a, wait=9\", wait=2; handling=strict, handling=lenient"],
            &["foo=\"\\\", wait=9\", wait=2,, handling=lenient"],
        ] {
            assert_eq!(read(texts), both, "{texts:?}");
        }
        for texts in [&[][..], &[""], &["wait"], &["wait=-1"], &["wait=1.5"], &["handling=no"], &["x=wait=2"]] {
            assert_eq!(read(texts), Preferences::default(), "{texts:?}");
        }
        assert!(read(&["wait=99999999999999999999"]).wait > Some(Duration::from_secs(1 << 31)));
    }

    #[test]
    fn heeded_preferences_are_told() {
        let told = |texts| read(texts).applied().map(|(_, value)| value.to_str().unwrap().to_owned());
        assert_eq!(told(&["handling=lenient, wait=2, x"]).as_deref(), Some("wait=2, handling=lenient"));
        assert_eq!(told(&["respond-async"]), None);
    }
}
