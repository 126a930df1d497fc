//! From the tree of the settings to a [`Declaration`]; every mistake is told with its place and the nearest known word.

use std::collections::BTreeMap;

use event_sourcing_actors::{EventType, catalog::nearest, codec::escaped};
use serde_json::{Map, Value};

use super::{
    DeclarationError, KEY, Known,
    declaration::{Declaration, Effect, Envelope, Operation, Rule, Source, Verb},
};

/// Elements of an appended list unless the declaration says otherwise, and at most.
const ELEMENTS: (u64, u64) = (100, 1_000);
/// Longest name of a projection, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Edits between two words that are taken for one and a slip of the pen.
const TYPO_EDITS_MAX: usize = 2;

const VERBS: [&str; 8] = ["add", "append", "count", "max", "min", "remove", "set", "subtract"];
const METADATA: &str = "$metadata";

/// A place in the declarations.
struct At<'a> {
    known: Known<'a>,
    path: Vec<String>,
}

impl<'a> At<'a> {
    fn child(&self, name: &str) -> At<'a> {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        At { known: self.known, path }
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, DeclarationError> {
        let pointer: String = self.path.iter().map(|part| format!("/{}", escaped(part))).collect();
        Err(DeclarationError {
            place: (self.known.place)(&pointer),
            path: format!("projections.declarations.{}", self.path.join(".")),
            problem: problem.into(),
        })
    }

    /// A mapping with members of these names only.
    fn mapping<'v>(&self, value: &'v Value, allowed: &[&str]) -> Result<&'v Map<String, Value>, DeclarationError> {
        let members = self.any_mapping(value, &format!("a mapping of {}", allowed.join(", ")))?;
        match members.keys().find(|name| !allowed.contains(&name.as_str())) {
            Some(name) => self.child(name).fail(format!("{name:?} is not known here{}", hint(name, allowed))),
            None => Ok(members),
        }
    }

    fn any_mapping<'v>(&self, value: &'v Value, wanted: &str) -> Result<&'v Map<String, Value>, DeclarationError> {
        match value {
            Value::Object(members) if !members.is_empty() => Ok(members),
            Value::Object(_) | Value::Null => self.fail(format!("must be {wanted}; it is empty")),
            other => self.fail(format!("must be {wanted}, not {other}")),
        }
    }
}

fn hint(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()).first() {
        Some(near) => format!("; did you mean {near}?"),
        None => format!("; known are {}", known.join(", ")),
    }
}

/// Reads one declaration.
pub(super) fn declaration(name: &str, tree: &Value, known: Known<'_>) -> Result<Declaration, DeclarationError> {
    let at = At { known, path: vec![name.to_owned()] };
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_plain || name.len() > NAME_BYTES_MAX || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return at.fail(format!(
            "a name begins with a lower-case letter and goes on with such letters, digits and _; at most {NAME_BYTES_MAX}"
        ));
    }
    if known.projections.contains(&name) {
        return at.fail(format!("there is a projection {name:?} already; choose another name"));
    }
    let members = at.mapping(tree, &["on"])?;
    let at = at.child("on");
    let rules = at.any_mapping(&members["on"], "a mapping of event types")?;
    let on = rules.iter().map(|(event_type, value)| {
        let at = at.child(event_type);
        check_event_type(&at, event_type)?;
        Ok((event_type.clone(), rule(&at, value)?))
    });
    Ok(Declaration { on: on.collect::<Result<_, DeclarationError>>()? })
}

/// Any event type may be declared upon, since generic streams hold what they like; but not one that is almost a
/// domain's.
fn check_event_type(at: &At<'_>, name: &str) -> Result<(), DeclarationError> {
    if let Err(error) = EventType::new(name) {
        return at.fail(format!("this is no event type: it {error}"));
    }
    if at.known.event_types.contains(&name) {
        return Ok(());
    }
    let bare = |name: &str| name.to_lowercase().replace(['_', '-', '.', ' '], "");
    let edits = |known: &&str| strsim::damerau_levenshtein(&bare(name), &bare(known));
    match at.known.event_types.iter().min_by_key(|known| edits(known)).filter(|known| edits(known) <= TYPO_EDITS_MAX) {
        Some(near) => at.fail(format!("no aggregate has an event type {name:?}; did you mean {near}?")),
        None => Ok(()),
    }
}

fn rule(at: &At<'_>, value: &Value) -> Result<Rule, DeclarationError> {
    let members = at.mapping(value, &["key", "fields", "remove"])?;
    let key = match members.get("key") {
        None => return at.fail("key is missing: say which row the event is about, such as key: $aggregate_id"),
        Some(key) => source(&at.child("key"), key)?,
    };
    let effect = match (members.get("fields"), members.get("remove")) {
        (None, Some(Value::Bool(true))) => Effect::Remove,
        (None, Some(_)) => return at.child("remove").fail("must be true, or absent"),
        (Some(_), Some(_)) => {
            return at.child("remove").fail("a row is removed as a whole: leave out fields or remove");
        }
        (None, None) => return at.fail("fields is missing: say what the event changes, or remove: true"),
        (Some(value), None) => {
            let at = at.child("fields");
            let fields = at.any_mapping(value, "a mapping of fields")?;
            let fields = fields.iter().map(|(name, value)| {
                let at = at.child(name);
                if name == KEY {
                    return at.fail("every row has its key in this field; choose another name");
                }
                Ok((name.clone(), operation(&at, value)?))
            });
            Effect::Change { fields: fields.collect::<Result<BTreeMap<_, _>, DeclarationError>>()? }
        }
    };
    Ok(Rule { key, effect })
}

fn operation(at: &At<'_>, value: &Value) -> Result<Operation, DeclarationError> {
    match value {
        Value::String(word) if word == "count" => Ok(Operation::Count),
        Value::String(word) if word == "remove" => Ok(Operation::RemoveField),
        Value::String(word) if VERBS.contains(&word.as_str()) => {
            at.fail(format!("{word} needs a value, such as {{ {word}: /amount }}"))
        }
        Value::String(word) => at.fail(format!("there is no operation {word:?}{}", hint(word, &VERBS))),
        Value::Object(members) => with_value(at, members),
        Value::Null => at.fail(format!("the operation is missing; known are {}", VERBS.join(", "))),
        other => at.fail(format!("must be an operation, such as count or {{ add: /amount }}, not {other}")),
    }
}

fn with_value(at: &At<'_>, members: &Map<String, Value>) -> Result<Operation, DeclarationError> {
    let is_option = |name: &str| ["optional", "elements_max"].contains(&name);
    let mut verbs = members.iter().filter(|(name, _)| !is_option(name));
    let (word, value) = match (verbs.next(), verbs.next()) {
        (Some(verb), None) => verb,
        (None, _) => return at.fail(format!("the operation is missing; known are {}", VERBS.join(", "))),
        (Some((first, _)), Some((second, _))) => {
            return at.fail(format!("a field takes one operation, but here are {first} and {second}"));
        }
    };
    let verb_at = at.child(word);
    let optional = match members.get("optional") {
        None => false,
        Some(Value::Bool(optional)) => *optional,
        Some(other) => return at.child("optional").fail(format!("must be true or false, not {other}")),
    };
    let elements_max = elements_max(&at.child("elements_max"), word, members.get("elements_max"))?;
    let verb = match word.as_str() {
        "set" => Verb::Set,
        "add" => Verb::Add,
        "subtract" => Verb::Subtract,
        "min" => Verb::Min,
        "max" => Verb::Max,
        "append" => Verb::Append { elements_max },
        "remove" => Verb::Remove,
        "count" => return verb_at.fail("count takes no value: write only count"),
        _ => {
            let known = [&VERBS[..], &["elements_max", "optional"]].concat();
            return verb_at.fail(format!("there is no operation {word:?}{}", hint(word, &known)));
        }
    };
    let constant = value.as_object().filter(|_| verb == Verb::Set);
    let source = match constant {
        Some(_) => Source::Constant(verb_at.mapping(value, &["value"])?["value"].clone()),
        None => source(&verb_at, value)?,
    };
    Ok(Operation::With { verb, source, optional })
}

fn elements_max(at: &At<'_>, word: &str, value: Option<&Value>) -> Result<usize, DeclarationError> {
    let (default, most) = ELEMENTS;
    let number = match value {
        Some(_) if word != "append" => return at.fail(format!("belongs to append, not to {word}")),
        None => Some(default),
        Some(value) => value.as_u64().filter(|number| (1..=most).contains(number)),
    };
    match number.and_then(|number| usize::try_from(number).ok()) {
        Some(number) => Ok(number),
        None => at.fail(format!("must be 1 to {most}, not {}", value.unwrap_or(&Value::Null))),
    }
}

fn source(at: &At<'_>, value: &Value) -> Result<Source, DeclarationError> {
    const FORMS: &str = "a JSON pointer into the payload, such as /amount, or a word such as $aggregate_id";
    let Some(text) = value.as_str() else {
        return at.fail(format!("must be {FORMS}, not {value}"));
    };
    if text.starts_with('/') {
        return Ok(Source::Payload(tokens(at, text)?));
    }
    if let Some(pointer) = text.strip_prefix(METADATA).filter(|rest| rest.starts_with('/')) {
        return Ok(Source::Metadata(tokens(at, pointer)?));
    }
    if let Some((_, word)) = Envelope::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(Source::Envelope(*word));
    }
    if text.starts_with('$') {
        let mut words: Vec<&str> = Envelope::WORDS.iter().map(|(word, _)| *word).collect();
        words.push("$metadata/…");
        return at.fail(format!("the envelope has no {text}{}", hint(text, &words)));
    }
    at.fail(format!("{text:?} is not {FORMS}; did you mean /{text}?"))
}

/// The tokens of a JSON pointer (RFC 6901).
fn tokens(at: &At<'_>, pointer: &str) -> Result<Vec<String>, DeclarationError> {
    let mut tokens = Vec::new();
    for token in pointer.split('/').skip(1) {
        if token.replace("~0", "").replace("~1", "").contains('~') {
            return at.fail(format!("{pointer:?} is no JSON pointer: after ~ come only 0 (for ~) and 1 (for /)"));
        }
        tokens.push(token.replace("~1", "/").replace("~0", "~"));
    }
    Ok(tokens)
}
