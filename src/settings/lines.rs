//! Lines of a YAML file by JSON pointer: the crate `config` forgets them, so the file is read a second time.

use std::collections::BTreeMap;

use event_sourcing_actors::codec::escaped;
use yaml_rust2::{
    Event,
    parser::{MarkedEventReceiver, Parser},
    scanner::Marker,
};

/// The line of each member and element of the first document, from 1. Empty when the text is no YAML: whoever read it
/// first has said so.
pub(super) fn lines(text: &str) -> BTreeMap<String, usize> {
    let mut reader = Reader::default();
    match Parser::new_from_str(text).load(&mut reader, false) {
        Ok(()) => reader.lines,
        Err(_) => BTreeMap::new(),
    }
}

#[derive(Debug, Default)]
struct Reader {
    open: Vec<Open>,
    lines: BTreeMap<String, usize>,
}

/// A mapping or sequence whose end has not come yet.
#[derive(Debug)]
struct Open {
    pointer: String,
    /// What the next node is.
    next: Next,
}

#[derive(Debug)]
enum Next {
    /// A member's name.
    Name,
    /// The value of the member with this pointer.
    Value(String),
    /// An element.
    Element(usize),
    /// The name of a member that is no scalar; it and its value are passed over.
    Odd,
}

impl Reader {
    /// The pointer of a node that begins; none if it is a member's name.
    fn enter(&mut self, line: usize, name: Option<&str>) -> Option<String> {
        let Some(open) = self.open.last_mut() else { return Some(String::new()) };
        match std::mem::replace(&mut open.next, Next::Name) {
            Next::Name => {
                let Some(name) = name else {
                    open.next = Next::Odd;
                    return None;
                };
                let pointer = format!("{}/{}", open.pointer, escaped(name));
                self.lines.insert(pointer.clone(), line);
                open.next = Next::Value(pointer);
                None
            }
            Next::Value(pointer) => Some(pointer),
            Next::Element(index) => {
                let pointer = format!("{}/{index}", open.pointer);
                self.lines.insert(pointer.clone(), line);
                open.next = Next::Element(index + 1);
                Some(pointer)
            }
            Next::Odd => None,
        }
    }
}

impl MarkedEventReceiver for Reader {
    fn on_event(&mut self, event: Event, mark: Marker) {
        match event {
            Event::Scalar(text, ..) => {
                self.enter(mark.line(), Some(&text));
            }
            Event::Alias(_) => {
                self.enter(mark.line(), None);
            }
            Event::MappingStart(..) => {
                let pointer = self.enter(mark.line(), None).unwrap_or_default();
                self.open.push(Open { pointer, next: Next::Name });
            }
            Event::SequenceStart(..) => {
                let pointer = self.enter(mark.line(), None).unwrap_or_default();
                self.open.push(Open { pointer, next: Next::Element(0) });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_know_their_lines() {
        let text = "# first\na:\n  b: 1\n  'c/d':\n    - x\n    - {e: 1,\n       f: 2}\ng: &anchor {h: 1}\ni: *anchor\nj: last\n";
        let lines = lines(text);
        let known: Vec<(&str, usize)> = lines.iter().map(|(pointer, line)| (pointer.as_str(), *line)).collect();
        assert_eq!(
            known,
            [
                ("/a", 2),
                ("/a/b", 3),
                ("/a/c~1d", 4),
                ("/a/c~1d/0", 5),
                ("/a/c~1d/1", 6),
                ("/a/c~1d/1/e", 6),
                ("/a/c~1d/1/f", 7),
                ("/g", 8),
                ("/g/h", 8),
                ("/i", 9),
                ("/j", 10),
            ]
        );
    }

    #[test]
    fn what_is_no_yaml_has_no_lines() {
        assert_eq!(lines("a: {"), BTreeMap::new());
        assert_eq!(lines(""), BTreeMap::new());
    }
}
