//! Text for people: what others wrote cannot steer the terminal, and columns stand under each other.

use std::fmt::Write;

use event_sourcing_cqrs::wire;

/// The text with everything escaped that could forge lines or steer a terminal.
pub(crate) fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        let turns_direction = matches!(character,
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns_direction {
            safe.extend(character.escape_unicode());
        } else if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// An event as one line.
pub(crate) fn event_line(event: &wire::Event) -> String {
    let stream = format!("{} {}#{}", event.aggregate_type, event.aggregate_id, event.sequence);
    let line = format!(
        "{:>8}  {}  {stream:<28}  {:<20}  {}",
        event.position.0,
        event.recorded_at.format("%Y-%m-%d %H:%M:%S%.6fZ"),
        event.event_type.as_str(),
        event.data.get()
    );
    harmless(&line)
}

/// The title over lines of events.
pub(crate) fn event_title() -> String {
    format!("{:>8}  {:<27}  {:<28}  {:<20}  DATA", "POSITION", "RECORDED AT", "STREAM", "EVENT")
}

/// Names and values, one pair a line, the values under each other.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    pairs.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<width$}  {}", harmless(value));
        text
    })
}

/// `1 event`, `2 events`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_forge_lines_or_steer_the_terminal() {
        assert_eq!(harmless("a\n\u{1b}[31m\u{9b}1m\u{202e}ü"), "a\\n\\u{1b}[31m\\u{9b}1m\\u{202e}ü");
    }
}
