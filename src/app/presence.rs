//! Which servers work on one SQLite file. Each holds a lock on a small file beside it, which the system takes back when a
//! process ends, however it ends: there is nothing to expire, and nothing is left behind by `kill -9`.
//!
//! Nothing rests on it: the database alone arbitrates who may write what. It is there to be told to people.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
    time::Duration,
};

use uuid::Uuid;

/// Looks whether a server that is just starting has finished with the file, and the pause between two.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// A server is on this file, for as long as this lives.
#[derive(Debug)]
pub struct Presence {
    file: File,
    has_others: bool,
}

impl Presence {
    /// Makes this server known beside the database, and finds whether there is another.
    ///
    /// # Errors
    /// The file beside the database cannot be made or locked: then nobody can tell.
    pub async fn announce(database: &Path) -> io::Result<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push(".servers");
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        // Whoever gets it alone leaves a mark, by which it finds whether another was faster before it shares.
        let mark = match file.try_lock() {
            Ok(()) => Some(write_mark(&mut file)?),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        for _ in 0..LOOKS {
            match file.try_lock_shared() {
                Ok(()) => {
                    let has_others = match &mark {
                        Some(mark) => read_mark(&mut file)? != *mark,
                        None => true,
                    };
                    return Ok(Self { file, has_others });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        // One that is frozen in the middle of its start.
        Ok(Self { file, has_others: true })
    }

    /// Whether another server was on the file when this one came.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.has_others
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Closing does it, too, unless a child of this process has the file still.
        let _ = self.file.unlock();
    }
}

fn write_mark(file: &mut File) -> io::Result<Vec<u8>> {
    let mark = Uuid::new_v4().to_string().into_bytes();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&mark)?;
    Ok(mark)
}

fn read_mark(file: &mut File) -> io::Result<Vec<u8>> {
    let mut mark = Vec::new();
    file.rewind()?;
    file.take(64).read_to_end(&mut mark)?;
    Ok(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_comes_second_knows_and_whoever_comes_after_all_are_gone_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let announce = async || Presence::announce(&folder.path().join("a.db")).await.unwrap();
        let first = announce().await;
        let second = announce().await;
        assert_eq!((first.has_others(), second.has_others()), (false, true));
        drop(first);
        assert!(announce().await.has_others(), "the second is there");
        drop(second);
        assert!(!announce().await.has_others());
    }

    #[tokio::test]
    async fn of_many_that_come_at_once_at_most_one_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let all = (0..16).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { Presence::announce(&path).await.unwrap() })
        });
        let all = futures_util::future::join_all(all).await;
        let alone = all.into_iter().filter(|one| !one.as_ref().unwrap().has_others()).count();
        assert!(alone <= 1, "{alone}");
    }
}
