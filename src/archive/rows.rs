//! Rows of the log as bytes of a frame: numbers first, then the parts, one row after the other.

use crate::integrity::port::{StoredRow, StoredRows};

/// Numbers and lengths of a row.
const ROW_BYTES: usize = 4 * 8 + 8 * 4;

/// Bytes of a row in a frame.
pub(super) fn packed_bytes(row: &StoredRow<'_>) -> usize {
    ROW_BYTES + parts(row).iter().map(|part| part.len()).sum::<usize>()
}

fn parts<'a>(row: &StoredRow<'a>) -> [&'a [u8]; 8] {
    [
        row.aggregate_id,
        row.aggregate_type,
        row.event_id,
        row.event_type,
        row.data,
        row.metadata,
        row.checksum,
        row.chain,
    ]
}

/// Adds a row; `None` if a part is longer than its length can say.
pub(super) fn pack(into: &mut Vec<u8>, row: &StoredRow<'_>) -> Option<()> {
    for number in [row.position, row.sequence, row.schema_version, row.recorded_at] {
        into.extend_from_slice(&number.to_be_bytes());
    }
    let parts = parts(row);
    for part in parts {
        into.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
    }
    parts.iter().for_each(|part| into.extend_from_slice(part));
    Some(())
}

/// The rows of a frame; `None` if it holds something else.
pub(super) fn unpack(content: &[u8]) -> Option<StoredRows> {
    let (mut rows, mut rest) = (StoredRows::default(), content);
    while !rest.is_empty() {
        let (head, after) = rest.split_at_checked(ROW_BYTES)?;
        let number = |at: usize| head[at * 8..][..8].try_into().map(i64::from_be_bytes).ok();
        let length = |at: usize| head[32 + at * 4..][..4].try_into().map(u32::from_be_bytes).ok();
        let mut parts: [&[u8]; 8] = [&[]; 8];
        let mut left = after;
        for (at, part) in parts.iter_mut().enumerate() {
            (*part, left) = left.split_at_checked(usize::try_from(length(at)?).ok()?)?;
        }
        rest = left;
        let [aggregate_id, aggregate_type, event_id, event_type, data, metadata, checksum, chain] = parts;
        rows.push(&StoredRow {
            position: number(0)?,
            sequence: number(1)?,
            schema_version: number(2)?,
            recorded_at: number(3)?,
            aggregate_id,
            aggregate_type,
            event_id,
            event_type,
            data,
            metadata,
            checksum,
            chain,
        });
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_anything_else_does_not() {
        let row = StoredRow {
            position: 7,
            aggregate_id: "ü".as_bytes(),
            aggregate_type: b"t",
            sequence: 3,
            event_id: &[1; 16],
            event_type: b"E",
            schema_version: 2,
            data: b"{}",
            metadata: b"",
            recorded_at: -5,
            checksum: &[2; 32],
            chain: &[3; 32],
        };
        let mut content = Vec::new();
        pack(&mut content, &row).unwrap();
        assert_eq!(content.len(), packed_bytes(&row));
        pack(&mut content, &StoredRow { position: 8, ..row }).unwrap();
        let rows = unpack(&content).unwrap();
        let mut all = rows.iter();
        let first = all.next().unwrap();
        assert_eq!((first.position, first.recorded_at, first.aggregate_id), (7, -5, "ü".as_bytes()));
        assert_eq!((all.next().unwrap().position, all.next().is_none()), (8, true));
        for length in 1..content.len() {
            let is_whole = length == packed_bytes(&row);
            assert_eq!(unpack(&content[..length]).is_some(), is_whole, "{length}");
        }
    }
}
