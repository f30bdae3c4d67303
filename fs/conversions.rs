//! Files that come from std, go back to it, and are copied.

use std::fs::File as StdFile;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use ringhold_runtime::{Call, ColdCall, Fd, Op, descriptor};
use tokio::sync::Mutex;

use crate::cursor::{Cursor, Kind};
use crate::direct::traits_of;
use crate::file::{File, Target};
use crate::standing::Standing;

impl File {
    /// Takes over a file that std opened. Its position stays the kernel's, which all who have the
    /// open file share, and whether it is direct or appends is what it was opened with.
    ///
    /// # Panics
    ///
    /// Where no runtime is entered.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// std::fs::write(&path, "hello")?;
    /// let file = ringhold_fs::File::from_std(std::fs::File::open(&path)?);
    /// let (_, buffer) = file.read_at(vec![0; 5], 0).await?;
    /// assert_eq!(buffer, b"hello");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn from_std(file: StdFile) -> File {
        File::from(OwnedFd::from(file))
    }

    /// Hands the file over to std, with its position, once what is in flight through the cursor has
    /// ended. Of a file with a position, what was read ahead and not taken is read again; of a
    /// pipe, it is gone.
    ///
    /// Where other operations on it are still in flight, std gets another descriptor of the same
    /// open file.
    ///
    /// # Panics
    ///
    /// If that descriptor can't be had (`EMFILE`).
    ///
    /// # Cancel safety
    ///
    /// Not safe: the file is dropped with the future.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// file.write_all_at("hello", 0).await?;
    /// let file: std::fs::File = file.into_std().await;
    /// assert_eq!(file.metadata()?.len(), 5);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn into_std(mut self) -> StdFile {
        let cursor = self.cursor.get_mut();
        cursor.settle(&self.target).await;
        cursor.give_back();
        let position = self.standing.to_hand_over();
        let descriptor = match descriptor::release(self.target.descriptor) {
            Ok(descriptor) => descriptor,
            Err(shared) => descriptor::borrow(&shared)
                .try_clone_to_owned()
                .expect("a file in use is given away by another descriptor"),
        };
        hand_over(descriptor, position)
    }

    /// Hands the file over to std at once.
    ///
    /// # Errors
    ///
    /// Returns the file where something is in flight on it.
    #[allow(clippy::result_large_err, reason = "the error is the file, as in tokio")]
    pub fn try_into_std(mut self) -> Result<StdFile, File> {
        let cursor = self.cursor.get_mut();
        if !cursor.is_idle() {
            return Err(self);
        }
        cursor.give_back();
        let File { target, standing, cursor } = self;
        match descriptor::release(target.descriptor) {
            Ok(descriptor) => Ok(hand_over(descriptor, standing.to_hand_over())),
            Err(descriptor) => {
                Err(File { target: Target { descriptor, ..target }, standing, cursor })
            }
        }
    }

    /// Another descriptor of the same open file. All share the position, as in std, which from now
    /// on is the kernel's: see [`File`].
    ///
    /// # Errors
    ///
    /// `EMFILE` where the process has no descriptor left.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing stays open.
    ///
    /// # Kernel
    ///
    /// A cold call: `fcntl(F_DUPFD_CLOEXEC)`.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// let copy = file.try_clone().await?;
    /// drop(file);
    /// copy.write_all_at("hello", 0).await?;
    /// assert_eq!(ringhold_fs::read(&path).await?, b"hello");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn try_clone(&self) -> io::Result<File> {
        let cursor = {
            let mut cursor = self.cursor.lock().await;
            cursor.settle(&self.target).await;
            self.standing.share(&self.target.descriptor);
            Mutex::new(cursor.copy(&self.target))
        };
        let descriptor = duplicate(&self.target.descriptor).await?;
        descriptor.learn_whether_it_may_hang();
        let target = Target { descriptor, ..self.target };
        Ok(File { target, standing: self.standing.clone(), cursor })
    }
}

/// Another descriptor of the same open file.
async fn duplicate(file: &Fd) -> io::Result<Fd> {
    let system = ringhold_runtime::system();
    let call = ColdCall::on(file, |file| Call::Duplicate { file, system, copy: None });
    match Op::new(call).await? {
        (_, Call::Duplicate { copy: Some(copy), .. }) => Ok(copy.into()),
        (_, call) => unreachable!("a duplicate was answered by {call:?}"),
    }
}

/// Makes std's file, which has to stand where ours stood.
fn hand_over(descriptor: OwnedFd, position: Option<u64>) -> StdFile {
    let mut file = StdFile::from(descriptor);
    if let Some(position) = position {
        // What can't seek has no position to lose.
        let _ = io::Seek::seek(&mut file, io::SeekFrom::Start(position));
    }
    file
}

impl From<StdFile> for File {
    #[track_caller]
    fn from(file: StdFile) -> File {
        File::from_std(file)
    }
}

impl From<OwnedFd> for File {
    #[track_caller]
    fn from(owned: OwnedFd) -> File {
        let descriptor = descriptor::adopt(owned);
        descriptor.learn_whether_it_may_hang();
        let known = descriptor.system().open_files().describe(descriptor.descriptor());
        let (alignment, appends, kind) =
            known.map_or((None, false, Kind::Stream), |known| traits_of(&known));
        let standing = Arc::new(Standing::shared());
        let cursor = Mutex::new(Cursor::new(kind, standing.clone()));
        File { target: Target { descriptor, alignment, appends }, standing, cursor }
    }
}

/// Whoever has the descriptor may read, write and seek with it, so from now on the file's position
/// is the kernel's: see [`File`]. A simulated file has no descriptor, and panics.
impl AsFd for File {
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        let descriptor = descriptor::borrow(&self.target.descriptor);
        self.standing.share(&self.target.descriptor);
        descriptor
    }
}

/// As [`AsFd`].
impl AsRawFd for File {
    #[track_caller]
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
