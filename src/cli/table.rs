//! Tables for people: rows of JSON objects and of cells, columns under their titles.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::text::harmless;

/// Columns under their titles; those that hold only numbers stand to the right.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| harmless(cell)).collect()).collect();
    let titles: Vec<String> = titles.iter().map(|title| harmless(title)).collect();
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let columns: Vec<(usize, bool)> = (0..titles.len())
        .map(|column| {
            let cells = || rows.iter().map(|row| cell(row, column));
            let width = cells().chain([cell(&titles, column)]).map(|text| text.chars().count()).max().unwrap_or(0);
            (width, cells().all(|text| text == "-" || text.parse::<f64>().is_ok()))
        })
        .collect();
    let line = |row: &[String]| {
        let cells = columns.iter().enumerate().map(|(column, (width, is_numeric))| {
            let text = cell(row, column);
            if *is_numeric { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    std::iter::once(line(&titles)).chain(rows.iter().map(|row| line(row))).collect::<Vec<_>>().join("\n")
}

/// A JSON object's members in their order, byte for byte.
#[derive(Debug)]
pub(crate) struct Object(pub(crate) Vec<(String, Box<RawValue>)>);

impl Object {
    /// A member.
    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Objects as a table: a column for each member that any of them has.
pub(crate) fn objects(objects: &[Object]) -> String {
    let mut titles: Vec<&str> = Vec::new();
    for (name, _) in objects.iter().flat_map(|object| &object.0) {
        if !titles.contains(&name.as_str()) {
            titles.push(name);
        }
    }
    let row = |object: &Object| titles.iter().map(|name| object.get(name).map_or_else(String::new, plain)).collect();
    let rows: Vec<Vec<String>> = objects.iter().map(row).collect();
    let titles: Vec<String> = titles.iter().map(|name| name.to_uppercase().replace('_', " ")).collect();
    table(&titles.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

/// A value as people read it: text without its quotes, nothing as a dash, anything else as it is.
pub(crate) fn plain(value: &RawValue) -> String {
    match value.get() {
        "null" => "-".to_owned(),
        text => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_columns_in_their_order() {
        let rows: Vec<Object> =
            serde_json::from_str(r#"[{"name":"a\nb","at":1.50},{"name":"c","at":null,"more":{"x":1}}]"#).unwrap();
        assert_eq!(objects(&rows), "NAME    AT  MORE\na\\nb  1.50\nc        -  {\"x\":1}");
    }

    #[test]
    fn no_rows_are_a_title_alone() {
        assert_eq!(table(&["A", "B"], &[]), "A  B");
    }
}
