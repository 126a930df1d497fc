//! From rows to an answer's data: stored bytes go in as they are.

use bytes::Bytes;

use crate::view::Selection;

/// Rows as JSON; `None`: the row that is asked for is not there. A list was read one row further than it is long.
pub(super) fn data(selection: &Selection, mut rows: Vec<(Box<str>, Bytes)>) -> Option<Bytes> {
    let Selection::List(list) = selection else { return rows.into_iter().next().map(|(_, data)| data) };
    let limit = usize::try_from(list.limit.get()).unwrap_or(usize::MAX);
    let is_last_page = rows.len() <= limit;
    rows.truncate(limit);
    let cursor = rows.last().filter(|_| !is_last_page).map(|(sort, _)| serde_json::Value::from(&**sort));
    let mut text = Vec::with_capacity(rows.iter().map(|(_, data)| data.len() + 1).sum::<usize>() + 64);
    text.extend_from_slice(br#"{"items":["#);
    for (index, (_, data)) in rows.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(data);
    }
    text.extend_from_slice(br#"],"next_cursor":"#);
    text.extend_from_slice(cursor.unwrap_or(serde_json::Value::Null).to_string().as_bytes());
    text.push(b'}');
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::ListRange;

    #[test]
    fn rows_are_spliced_byte_for_byte_and_the_cursor_is_escaped() {
        let rows = |sorts: &[&str]| -> Vec<(Box<str>, Bytes)> {
            sorts.iter().map(|sort| ((*sort).into(), Bytes::from_static(b"{ \"n\": 1.50 }"))).collect()
        };
        let limit = std::num::NonZeroU32::new(2).unwrap();
        let list = Selection::List(ListRange { limit, ..ListRange::new("c", "") });
        let text = |sorts: &[&str]| String::from_utf8(data(&list, rows(sorts)).unwrap().to_vec()).unwrap();
        assert_eq!(text(&[]), r#"{"items":[],"next_cursor":null}"#);
        assert_eq!(text(&["a", "b"]), r#"{"items":[{ "n": 1.50 },{ "n": 1.50 }],"next_cursor":null}"#);
        assert_eq!(text(&["a", "b\"", "c"]), r#"{"items":[{ "n": 1.50 },{ "n": 1.50 }],"next_cursor":"b\""}"#);
    }
}
