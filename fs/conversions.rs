//! Files that come from std, go back to it, and are copied.

use std::fs::File as StdFile;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use ringhold_runtime::{Call, ColdCall, Fd, Op, descriptor};

use crate::cursor::Cursor;
use crate::file::{File, Target};

impl File {
    /// Takes over a file that std opened, with the position it has.
    ///
    /// Whether it is direct isn't asked: a misaligned transfer on such a file is the kernel's own
    /// `EINVAL`.
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

    /// Gives the file to std, with its position, once what is in flight through the cursor has
    /// ended.
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
        self.cursor.get_mut().settle(&self.target).await;
        let position = self.cursor.get_mut().position_for_kernel();
        let descriptor = match descriptor::release(self.target.descriptor) {
            Ok(descriptor) => descriptor,
            Err(shared) => descriptor::borrow(&shared)
                .try_clone_to_owned()
                .expect("a file in use is given away by another descriptor"),
        };
        hand_over(descriptor, position)
    }

    /// Gives the file to std at once.
    ///
    /// # Errors
    ///
    /// Gives the file back where something is in flight on it.
    #[allow(clippy::result_large_err, reason = "the error is the file, as in tokio")]
    pub fn try_into_std(mut self) -> Result<StdFile, File> {
        if !self.cursor.get_mut().is_idle() {
            return Err(self);
        }
        let position = self.cursor.get_mut().position_for_kernel();
        let Target { descriptor, alignment } = self.target;
        match descriptor::release(descriptor) {
            Ok(descriptor) => Ok(hand_over(descriptor, position)),
            Err(shared) => {
                Err(File { target: Target { descriptor: shared, alignment }, cursor: self.cursor })
            }
        }
    }

    /// Another descriptor of the same open file. Both share the cursor, as in std.
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
            cursor.locate(&self.target).await;
            cursor.share()
        };
        let descriptor = duplicate(&self.target.descriptor).await?;
        Ok(File::new(descriptor, self.target.alignment, cursor))
    }
}

/// Another descriptor of the same open file.
async fn duplicate(file: &Fd) -> io::Result<Fd> {
    let system = ringhold_runtime::system();
    let call = ColdCall::on(file, |file| Call::Duplicate { file, system, copy: None });
    match Op::new(call).await? {
        (_, Call::Duplicate { copy: Some(copy), .. }) => Ok(copy),
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
        File::new(descriptor::adopt(owned), None, Cursor::somewhere())
    }
}

/// A simulated file has no descriptor, and panics.
impl AsFd for File {
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        descriptor::borrow(&self.target.descriptor)
    }
}

/// A simulated file has no descriptor, and panics.
impl AsRawFd for File {
    #[track_caller]
    fn as_raw_fd(&self) -> RawFd {
        self.target.descriptor.real_descriptor()
    }
}
