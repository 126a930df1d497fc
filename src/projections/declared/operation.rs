//! What an operation does to a field. Numbers are whole and checked: nothing wraps, nothing is rounded.

use std::cmp::Ordering;

use serde_json::value::RawValue;

use super::{
    declaration::{Operation, Verb},
    value::{Reader, echo, is_null, missing, named, raw, text, whole_number},
};

type Field = Option<Box<RawValue>>;

impl Operation {
    /// The field afterwards; `None` = there is none.
    pub(super) fn apply(&self, old: Field, read: &Reader<'_>) -> Result<Field, String> {
        match self {
            Self::RemoveField => Ok(None),
            Self::Count => sum(old.as_deref(), "1", |old| old.checked_add(1)).map(Some),
            Self::With { verb, source, optional } => {
                let value = read.value(source)?;
                // A null is a value to be set, but nothing to reckon with.
                let is_absent = value.as_deref().is_none_or(|value| *verb != Verb::Set && is_null(value));
                match value {
                    _ if is_absent && *optional => Ok(old),
                    None => Err(missing(source)),
                    Some(value) => verb.apply(old, value, &named(source)),
                }
            }
        }
    }
}

impl Verb {
    fn apply(self, old: Field, value: Box<RawValue>, name: &str) -> Result<Field, String> {
        let field = match self {
            Self::Set => value,
            Self::Add => {
                let number = number(&value, name)?;
                sum(old.as_deref(), name, |old| old.checked_add(number))?
            }
            Self::Subtract => {
                let number = number(&value, name)?;
                sum(old.as_deref(), name, |old| old.checked_sub(number))?
            }
            Self::Min => extreme(old, value, name, Ordering::Less)?,
            Self::Max => extreme(old, value, name, Ordering::Greater)?,
            Self::Append { elements_max } => {
                let mut elements = list(old.as_deref())?;
                elements.push(value);
                let surplus = elements.len().saturating_sub(elements_max);
                elements.drain(..surplus);
                raw(&elements)
            }
            Self::Remove => {
                let mut elements = list(old.as_deref())?;
                elements.retain(|element| element.get() != value.get());
                raw(&elements)
            }
        };
        Ok(Some(field))
    }
}

fn number(value: &RawValue, name: &str) -> Result<i64, String> {
    whole_number(value).ok_or_else(|| format!("{name} must be a whole number of 64 bits, not {}", echo(value)))
}

/// Reckons with the old number; a missing one is 0.
fn sum(old: Option<&RawValue>, name: &str, reckon: impl Fn(i64) -> Option<i64>) -> Result<Box<RawValue>, String> {
    let old = match old {
        None => 0,
        Some(old) => whole_number(old).ok_or_else(|| format!("it holds {}, which is no whole number", echo(old)))?,
    };
    let new = reckon(old).ok_or_else(|| format!("{old} and {name} together do not fit into 64 bits"))?;
    Ok(raw(&new))
}

/// Whichever of two numbers, or of two texts by their bytes, stands on that side.
fn extreme(old: Field, value: Box<RawValue>, name: &str, side: Ordering) -> Result<Box<RawValue>, String> {
    if whole_number(&value).is_none() && text(&value).is_none() {
        return Err(format!("{name} must be a whole number of 64 bits or a text, not {}", echo(&value)));
    }
    let Some(old) = old else { return Ok(value) };
    let numbers = whole_number(&value).zip(whole_number(&old)).map(|(new, old)| new.cmp(&old));
    let texts = || text(&value).zip(text(&old)).map(|(new, old)| new.cmp(&old));
    match numbers.or_else(texts) {
        Some(order) => Ok(if order == side { value } else { old }),
        None => Err(format!("{name} is {}, which cannot be compared with {}", echo(&value), echo(&old))),
    }
}

fn list(old: Option<&RawValue>) -> Result<Vec<Box<RawValue>>, String> {
    let Some(old) = old else { return Ok(Vec::new()) };
    serde_json::from_str(old.get()).map_err(|_| format!("it holds {}, which is no list", echo(old)))
}
