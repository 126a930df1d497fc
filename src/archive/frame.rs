//! The file of a backup, or of keys: frames, each under a digest that also covers all before it. Knows nothing of what is
//! in them.
//!
//! After a first line for people come frames: kind (1 byte), whether it is compressed (1), stored length (4), length when
//! unpacked (4), content, digest (32). Numbers begin with the most significant byte. A digest is SHA-256 over the digest
//! before it, the head and the stored content, so a flipped bit, a swap of two frames and one that is missing all show at
//! the first frame they touch; a tail that was cut off shows because the last frame is of a kind of its own.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// What a file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A log.
    Backup,
    /// Wrapped keys of subjects.
    Keys,
}

/// The longest first line, and more.
const FIRST_LINE_BYTES_MAX: usize = 64;

impl Family {
    const ALL: [Self; 2] = [Self::Backup, Self::Keys];

    /// What the first lines of all its formats begin with.
    fn beginning(self) -> &'static [u8] {
        match self {
            Self::Backup => b"event-sourcing-cqrs backup, format ",
            Self::Keys => b"event-sourcing-cqrs keys, format ",
        }
    }

    /// The first line; its number is that of the format.
    fn first_line(self) -> Vec<u8> {
        [self.beginning(), b"1\n"].concat()
    }

    /// What such a file is called.
    fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Keys => "key file",
        }
    }

    /// The words that make one and take one.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Backup => ("backup", "restore"),
            Self::Keys => ("keys backup", "keys restore"),
        }
    }
}
const HEAD_BYTES: usize = 10;
/// Bytes of a frame at most, also when unpacked: a page of events, or one that is large by itself.
pub(super) const CONTENT_BYTES_MAX: usize = 256 << 20;

/// A digest of the file up to some frame.
pub(super) type FrameDigest = [u8; 32];

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// What the backup is of; the first.
    Manifest = 1,
    /// Keys and checkpoints; the second.
    Evidence = 2,
    /// Rows of the log.
    Events = 3,
    /// What was promised above is whole; the last.
    End = 4,
    /// Wrapped keys of subjects.
    Keys = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        let all = [Self::Manifest, Self::Evidence, Self::Events, Self::End, Self::Keys];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why a file cannot be read as a backup, or as one of keys.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not begin like one.
    #[error("this is no {} that `event-sourcing-cqrs {}` made", .0.name(), .0.words().0)]
    Other(Family),
    /// It is one of the others.
    #[error("this is a {}, which `event-sourcing-cqrs {}` takes", .0.name(), .0.words().1)]
    Confused(Family),
    /// Its format is another.
    #[error(
        "the {} has a format that this program does not know: restore it with the program that made it, or a newer one",
        .0.name()
    )]
    NewerFormat(Family),
    /// It is not what was written.
    #[error("the {} is damaged at byte {offset}: {reason}; take another copy of it, or another one", .family.name())]
    Damaged {
        /// What it is of.
        family: Family,
        /// Where the first bad frame begins.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
}

impl FileError {
    /// Whether the file itself is at fault, and not the way to it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Whether it is another file than the one that was meant.
    #[must_use]
    pub fn is_another(&self) -> bool {
        matches!(self, Self::Other(_) | Self::Confused(_) | Self::NewerFormat(_))
    }
}

fn next_digest(before: &FrameDigest, head: &[u8; HEAD_BYTES], stored: &[u8]) -> FrameDigest {
    Sha256::new().chain_update(before).chain_update(head).chain_update(stored).finalize().into()
}

fn first_digest(family: Family) -> FrameDigest {
    Sha256::digest(family.first_line()).into()
}

/// Writes frames.
#[derive(Debug)]
pub(super) struct Writer<W> {
    out: W,
    digest: FrameDigest,
    written: u64,
}

impl<W: Write> Writer<W> {
    pub fn begin(mut out: W, family: Family) -> io::Result<Self> {
        let first = family.first_line();
        out.write_all(&first)?;
        Ok(Self { out, digest: first_digest(family), written: first.len() as u64 })
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes a frame; what does not shrink is stored as it is.
    pub fn write(&mut self, kind: Kind, content: &[u8]) -> io::Result<FrameDigest> {
        let too_large =
            || io::Error::new(io::ErrorKind::InvalidInput, "more in one event than a backup takes: 256 MiB");
        if content.len() > CONTENT_BYTES_MAX {
            return Err(too_large());
        }
        let packed = lz4_flex::block::compress(content);
        let (is_packed, stored) = if packed.len() < content.len() { (1, &packed[..]) } else { (0, content) };
        let mut head = [0; HEAD_BYTES];
        (head[0], head[1]) = (kind as u8, is_packed);
        head[2..6].copy_from_slice(&u32::try_from(stored.len()).map_err(|_| too_large())?.to_be_bytes());
        head[6..10].copy_from_slice(&u32::try_from(content.len()).map_err(|_| too_large())?.to_be_bytes());
        self.digest = next_digest(&self.digest, &head, stored);
        self.out.write_all(&head)?;
        self.out.write_all(stored)?;
        self.out.write_all(&self.digest)?;
        self.written += (HEAD_BYTES + stored.len() + self.digest.len()) as u64;
        Ok(self.digest)
    }

    /// Gives the place back, flushed.
    pub fn end(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads frames, each proven to be as it was written.
#[derive(Debug)]
pub(super) struct Reader<R> {
    from: R,
    family: Family,
    digest: FrameDigest,
    /// Bytes before the next frame.
    offset: u64,
}

impl<R: Read> Reader<R> {
    pub fn begin(mut from: R, family: Family) -> Result<Self, FileError> {
        let mut first = Vec::with_capacity(FIRST_LINE_BYTES_MAX);
        // Byte by byte, as nothing after the line may be taken.
        while first.len() < FIRST_LINE_BYTES_MAX && first.last() != Some(&b'\n') {
            if from.by_ref().take(1).read_to_end(&mut first)? == 0 {
                break;
            }
        }
        if first == family.first_line() {
            return Ok(Self { from, family, digest: first_digest(family), offset: first.len() as u64 });
        }
        match Family::ALL.into_iter().find(|other| first.starts_with(other.beginning())) {
            Some(same) if same == family => Err(FileError::NewerFormat(family)),
            Some(other) => Err(FileError::Confused(other)),
            None => Err(FileError::Other(family)),
        }
    }

    /// That what is read here is not what was written.
    pub fn damaged(&self, reason: impl Into<String>) -> FileError {
        FileError::Damaged { family: self.family, offset: self.offset, reason: reason.into() }
    }

    /// The digest of the file so far.
    pub fn digest(&self) -> FrameDigest {
        self.digest
    }

    /// The next frame. A file ends with its last frame, so its end is never right here.
    pub fn next(&mut self) -> Result<(Kind, Vec<u8>), FileError> {
        let cut = |this: &Self| this.damaged("the file ends before its last part: its tail was cut off");
        let mut head = [0; HEAD_BYTES];
        if let Err(error) = self.from.read_exact(&mut head) {
            return Err(if error.kind() == io::ErrorKind::UnexpectedEof { cut(self) } else { error.into() });
        }
        let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (kind, is_packed, stored_bytes, content_bytes) = (Kind::of(head[0]), head[1], number(2), number(6));
        let fits = stored_bytes <= CONTENT_BYTES_MAX && content_bytes <= CONTENT_BYTES_MAX && is_packed <= 1;
        let kind =
            kind.filter(|_| fits).ok_or_else(|| self.damaged("a part begins with something else than a head"))?;
        // Grows with what is there, so that a wrong length costs no memory.
        let mut stored = Vec::new();
        self.from.by_ref().take(stored_bytes as u64).read_to_end(&mut stored)?;
        let mut digest = [0; 32];
        if stored.len() < stored_bytes || self.from.read_exact(&mut digest).is_err() {
            return Err(cut(self));
        }
        let expected = next_digest(&self.digest, &head, &stored);
        if digest != expected {
            return Err(self.damaged("its digest is not that of its content and of all before it"));
        }
        let content = if is_packed == 1 {
            lz4_flex::block::decompress(&stored, content_bytes)
                .map_err(|error| self.damaged(format!("it cannot be unpacked: {error}")))?
        } else {
            stored
        };
        if content.len() != content_bytes {
            return Err(self.damaged("it is not as long as its head says"));
        }
        self.digest = expected;
        self.offset += (HEAD_BYTES + stored_bytes + digest.len()) as u64;
        Ok((kind, content))
    }

    /// Nothing may follow the last frame.
    pub fn end(mut self) -> Result<(), FileError> {
        let mut more = [0];
        match self.from.read(&mut more)? {
            0 => Ok(()),
            _ => Err(self.damaged("something follows its last part")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (Vec<u8>, Vec<usize>) {
        let mut writer = Writer::begin(Vec::new(), Family::Backup).unwrap();
        let at = |writer: &Writer<Vec<u8>>| usize::try_from(writer.written()).unwrap();
        let mut ends = vec![at(&writer)];
        let page = |letter: &str| letter.repeat(300);
        for (kind, content) in [
            (Kind::Manifest, "{}".to_owned()),
            (Kind::Events, page("a")),
            (Kind::Events, page("b")),
            (Kind::End, "{}".to_owned()),
        ] {
            writer.write(kind, content.as_bytes()).unwrap();
            ends.push(at(&writer));
        }
        (writer.end().unwrap(), ends)
    }

    fn read(file: &[u8]) -> Result<Vec<(Kind, Vec<u8>)>, FileError> {
        let mut reader = Reader::begin(file, Family::Backup)?;
        let mut frames = Vec::new();
        loop {
            let frame = reader.next()?;
            let is_last = frame.0 == Kind::End;
            frames.push(frame);
            if is_last {
                return reader.end().map(|()| frames);
            }
        }
    }

    #[test]
    fn frames_come_back_as_they_were_written() {
        let (file, _) = written();
        let frames = read(&file).unwrap();
        assert_eq!(frames.len(), 4);
        assert_eq!(frames[2], (Kind::Events, "b".repeat(300).into_bytes()));
    }

    #[test]
    fn every_flipped_bit_is_found_at_its_frame() {
        let (file, ends) = written();
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << (at % 8);
            match read(&flipped) {
                Err(FileError::Damaged { offset, .. }) => {
                    let frame = ends.iter().rposition(|end| *end <= at).unwrap();
                    assert_eq!(offset, ends[frame] as u64, "byte {at}");
                }
                Err(FileError::Other(_) | FileError::NewerFormat(_)) => assert!(at < ends[0], "byte {at}"),
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_cut_tail_swap_and_addition_is_found() {
        let (file, ends) = written();
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{length} bytes");
        }
        let [_, first, second, third, _] = ends[..] else { panic!("{ends:?}") };
        let swapped = [&file[..first], &file[second..third], &file[first..second], &file[third..]].concat();
        assert!(matches!(read(&swapped), Err(FileError::Damaged { offset, .. }) if offset == first as u64));
        let missing = [&file[..second], &file[third..]].concat();
        assert!(matches!(read(&missing), Err(FileError::Damaged { offset, .. }) if offset == second as u64));
        let added = [&file[..], b"x"].concat();
        assert!(matches!(read(&added), Err(FileError::Damaged { .. })));
    }

    #[test]
    fn another_format_and_another_file_are_told_apart() {
        let newer = b"event-sourcing-cqrs backup, format 2\nwhatever";
        assert!(matches!(read(newer), Err(FileError::NewerFormat(Family::Backup))));
        assert!(matches!(read(b"SQLite format 3\0"), Err(FileError::Other(Family::Backup))));
        assert!(matches!(read(b""), Err(FileError::Other(Family::Backup))));
        let keys = Writer::begin(Vec::new(), Family::Keys).unwrap().end().unwrap();
        let confused = read(&keys).unwrap_err();
        assert!(matches!(confused, FileError::Confused(Family::Keys)), "{confused}");
        assert_eq!(confused.to_string(), "this is a key file, which `event-sourcing-cqrs keys restore` takes");
        let none = Reader::begin(&b"nothing"[..], Family::Keys).unwrap_err();
        assert_eq!(none.to_string(), "this is no key file that `event-sourcing-cqrs keys backup` made");
    }
}
