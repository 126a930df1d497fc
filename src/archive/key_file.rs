//! A file of wrapped keys: what it is of, the keys in order of subject, and that it is whole. Never a key in the clear.

use std::io::{self, Read, Write};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId,
    ports::{StoredKey, StoredKeyState, WrappedKey},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::frame::{Family, FileError, Kind, Reader, Writer};

/// What a file of keys is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyManifest {
    /// The file's own id.
    pub file_id: Uuid,
    /// The store it is of.
    pub store_id: Uuid,
    /// Which kind of store that was.
    pub store_kind: String,
    /// The program that made it.
    pub program: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The names of the master keys that wrap what is in it.
    pub masters: Vec<String>,
    /// About how many keys are in it, destroyed ones too: others are made while it is.
    pub keys: u64,
}

/// That all of it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyEnd {
    /// Keys in it.
    pub keys: u64,
    /// Those of whom it says that their key was destroyed.
    pub destroyed: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    subject: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Wrapped { id: Uuid, master: String, wrapped: String },
    DestroyedAt(DateTime<Utc>),
}

impl Entry {
    fn of(key: &StoredKey) -> Self {
        let state = match &key.state {
            StoredKeyState::Destroyed(at) => State::DestroyedAt(*at),
            StoredKeyState::Wrapped(key) => {
                State::Wrapped { id: key.id, master: key.master.clone(), wrapped: BASE64.encode(&key.wrapped) }
            }
        };
        Self { subject: key.subject.as_str().to_owned(), state }
    }

    fn read(self) -> Option<StoredKey> {
        let state = match self.state {
            State::DestroyedAt(at) => StoredKeyState::Destroyed(at),
            State::Wrapped { id, master, wrapped } => {
                StoredKeyState::Wrapped(WrappedKey { id, master, wrapped: BASE64.decode(wrapped).ok()? })
            }
        };
        Some(StoredKey { subject: AggregateId::new(self.subject).ok()?, state })
    }
}

/// Writes one.
#[derive(Debug)]
pub(super) struct KeyWriter<W> {
    writer: Writer<W>,
    end: KeyEnd,
}

impl<W: Write> KeyWriter<W> {
    pub fn begin(out: W, manifest: &KeyManifest) -> io::Result<Self> {
        let mut writer = Writer::begin(out, Family::Keys)?;
        writer.write(Kind::Manifest, &serde_json::to_vec(manifest)?)?;
        Ok(Self { writer, end: KeyEnd { keys: 0, destroyed: 0 } })
    }

    pub fn write(&mut self, keys: &[StoredKey]) -> io::Result<()> {
        let entries: Vec<Entry> = keys.iter().map(Entry::of).collect();
        let destroyed = keys.iter().filter(|key| matches!(key.state, StoredKeyState::Destroyed(_))).count() as u64;
        self.end.destroyed += destroyed;
        self.end.keys += keys.len() as u64 - destroyed;
        self.writer.write(Kind::Keys, &serde_json::to_vec(&entries)?).map(|_| ())
    }

    /// What is in it, its bytes, the digest over all of it, and the place, flushed.
    pub fn end(mut self) -> io::Result<(KeyEnd, u64, [u8; 32], W)> {
        let digest = self.writer.write(Kind::End, &serde_json::to_vec(&self.end)?)?;
        let bytes = self.writer.written();
        Ok((self.end, bytes, digest, self.writer.end()?))
    }
}

/// Reads one.
#[derive(Debug)]
pub(super) struct KeyReader<R> {
    reader: Reader<R>,
    read: KeyEnd,
}

impl<R: Read> KeyReader<R> {
    pub fn begin(from: R) -> Result<(Self, KeyManifest), FileError> {
        let mut reader = Reader::begin(from, Family::Keys)?;
        let manifest = match reader.next()? {
            (Kind::Manifest, content) => serde_json::from_slice(&content).ok(),
            _ => None,
        };
        let manifest = manifest.ok_or_else(|| reader.damaged("it does not begin with what it is of"))?;
        Ok((Self { reader, read: KeyEnd { keys: 0, destroyed: 0 } }, manifest))
    }

    /// The next keys, in order of subject; gives the reader back unless that was the end, and it was whole.
    pub fn next(mut self) -> Result<(Option<Self>, Vec<StoredKey>), FileError> {
        match self.reader.next()? {
            (Kind::Keys, content) => {
                let entries: Option<Vec<Entry>> = serde_json::from_slice(&content).ok();
                let keys = entries.and_then(|entries| entries.into_iter().map(Entry::read).collect::<Option<Vec<_>>>());
                let keys = keys.ok_or_else(|| self.reader.damaged("a part holds something else than keys"))?;
                let destroyed = keys.iter().filter(|key| matches!(key.state, StoredKeyState::Destroyed(_))).count();
                self.read.destroyed += destroyed as u64;
                self.read.keys += (keys.len() - destroyed) as u64;
                Ok((Some(self), keys))
            }
            (Kind::End, content) if serde_json::from_slice(&content).ok() == Some(self.read) => {
                self.reader.end()?;
                Ok((None, Vec::new()))
            }
            (Kind::End, _) => Err(self.reader.damaged("its keys are not those it says it has")),
            _ => Err(self.reader.damaged("a part is none that belongs there")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, state: StoredKeyState) -> StoredKey {
        StoredKey { subject: AggregateId::new(name).unwrap(), state }
    }

    fn keys() -> Vec<StoredKey> {
        let wrapped = WrappedKey { id: Uuid::from_u128(7), master: "m".to_owned(), wrapped: (0..=71).collect() };
        let at = "2026-11-26T12:00:00.000001Z".parse().unwrap();
        vec![key("ü/\"x", StoredKeyState::Wrapped(wrapped)), key("z", StoredKeyState::Destroyed(at))]
    }

    fn file() -> Vec<u8> {
        let manifest = KeyManifest {
            file_id: Uuid::from_u128(1),
            store_id: Uuid::from_u128(2),
            store_kind: "memory".to_owned(),
            program: "0".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
            masters: vec!["m".to_owned()],
            keys: 2,
        };
        let mut writer = KeyWriter::begin(Vec::new(), &manifest).unwrap();
        keys().chunks(1).for_each(|page| writer.write(page).unwrap());
        let (end, bytes, _, file) = writer.end().unwrap();
        assert_eq!((end, bytes), (KeyEnd { keys: 1, destroyed: 1 }, file.len() as u64));
        file
    }

    fn read(file: &[u8]) -> Result<Vec<StoredKey>, FileError> {
        let (mut reader, _) = KeyReader::begin(file)?;
        let mut keys = Vec::new();
        loop {
            let (rest, page) = reader.next()?;
            keys.extend(page);
            match rest {
                Some(rest) => reader = rest,
                None => return Ok(keys),
            }
        }
    }

    #[test]
    fn keys_come_back_as_they_were_and_no_other_file_does() {
        let file = file();
        assert_eq!(read(&file).unwrap(), keys());
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(read(&flipped).is_err(), "byte {at}");
            assert!(read(&file[..at]).is_err(), "{at} bytes");
        }
        assert!(read(&[&file[..], b"x"].concat()).is_err());
    }
}
