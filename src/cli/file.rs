//! Files that words write and read: whole or not at all, flushed, readable by their owner alone.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use super::exit::{Exit, Failure};

/// Standard input or output, as an argument.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A new file that takes its name only when it is whole.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    beside: PathBuf,
    /// To be written to.
    pub(crate) file: File,
}

impl NewFile {
    /// Makes it under another name. A file that is there is never replaced.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        if path.exists() {
            let said = format!("{} is there already, and is not replaced: name another file", path.display());
            return Err(Failure::new(Exit::Conflict, said));
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".partial");
        let beside = PathBuf::from(beside);
        let opened = private().create(true).truncate(false).write(true).open(&beside);
        let file = opened.map_err(|error| cannot("written", &beside, &error))?;
        if file.try_lock().is_err() {
            let said = format!("another process is writing {}", beside.display());
            return Err(Failure::new(Exit::Conflict, said));
        }
        // What an earlier attempt has left.
        file.set_len(0).map_err(|error| cannot("written", &beside, &error))?;
        Ok(Self { path: path.to_owned(), beside, file })
    }

    /// Flushes it to the disk and gives it its name.
    pub(crate) fn keep(self) -> Result<(), Failure> {
        let kept = self.file.sync_all().and_then(|()| std::fs::rename(&self.beside, &self.path));
        kept.and_then(|()| sync_folder(&self.path)).map_err(|error| cannot("written", &self.path, &error))
    }

    /// Takes it away.
    pub(crate) fn discard(self) {
        let _ = std::fs::remove_file(&self.beside);
    }
}

/// After a power cut a new name is there only if its folder was flushed.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    let _ = path;
    Ok(())
}

/// Files that their owner alone may read: they hold what the database holds.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Opens a file, or standard input, to read it once; with its length, where it has one.
pub(crate) fn reader(path: &Path) -> Result<(BufReader<Box<dyn Read + Send>>, u64), Failure> {
    const BUFFER_BYTES: usize = 1 << 20;
    if is_standard(path) {
        return Ok((BufReader::with_capacity(BUFFER_BYTES, Box::new(io::stdin())), 0));
    }
    let file = File::open(path).map_err(|error| cannot("read", path, &error))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    Ok((BufReader::with_capacity(BUFFER_BYTES, Box::new(file)), length))
}

/// Why a file cannot be used, and what helps.
pub(crate) fn cannot(done: &str, path: &Path, error: &io::Error) -> Failure {
    let said = format!("{} cannot be {done}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Failure::not_found(said),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => Failure::usage(said),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Failure::new(Exit::Failed, said).and("free some space there, or write to another disk, and try again")
        }
        _ => Failure::new(Exit::Failed, said),
    }
}
