//! Reads and writes at an offset, with buffers that go in and come back.

use std::io;

use ringhold_buffers::{FixedBuf, FixedBufMut, IoBuf, IoBufMut, Slice};
use ringhold_runtime::ops::{Fixed, Read, ReadVectored, Write, WriteVectored};
use ringhold_runtime::{Failed, Op};

use crate::file::{File, Target};

/// What the operations below give: how many bytes it was, and the buffer, which comes back with an
/// error as well.
type Transfer<B> = Result<(usize, B), Failed<B>>;

/// The highest offset means "where the file stands" to the kernel. Nobody has a file of that
/// length, and the offset below it is refused as any other that is too high.
fn checked(offset: u64) -> u64 {
    offset.min(u64::MAX - 1)
}

impl File {
    /// Reads from `offset` into `buffer`: from the buffer's start, as much as there is and fits
    /// into its capacity. Returns the count of bytes, 0 at the file's end, and the buffer.
    ///
    /// A lease is read into by the fixed opcode.
    ///
    /// # Errors
    ///
    /// `EIO`; `EBADF` for a file that isn't open for reading; `EISDIR`; `InvalidInput` with an
    /// [`AlignmentError`](ringhold_runtime::ops::AlignmentError) for what direct I/O can't take.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is consumed. The buffer of a dropped read is gone, a lease back in its pool.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_READ`, since 5.6.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// ringhold_fs::write(&path, "hello world").await?;
    /// let file = ringhold_fs::File::open(&path).await?;
    /// let (count, buffer) = file.read_at(Vec::with_capacity(64), 6).await?;
    /// assert_eq!((count, &buffer[..]), (5, &b"world"[..]));
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    #[inline]
    pub fn read_at<B: IoBufMut>(
        &self,
        buffer: B,
        offset: u64,
    ) -> impl Future<Output = Transfer<B>> + Send + Unpin + use<B> {
        self.target.read(buffer, checked(offset))
    }

    /// Reads from `offset` until `buffer` is filled to its capacity. Returns that capacity, and the
    /// buffer.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` where the file ends before, with what there was in the buffer; and as for
    /// [`read_at`](File::read_at).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is consumed. The buffer of a dropped read is gone, a lease back in its pool.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_READ`, since 5.6, as often as it takes.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// ringhold_fs::write(&path, "hello world").await?;
    /// let file = ringhold_fs::File::open(&path).await?;
    /// let failed = file.read_exact_at(vec![0; 64], 6).await.unwrap_err();
    /// assert_eq!(failed.error.kind(), std::io::ErrorKind::UnexpectedEof);
    /// assert_eq!(&failed.buffer[..5], b"world");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn read_exact_at<B: IoBufMut>(
        &self,
        buffer: B,
        offset: u64,
    ) -> impl Future<Output = Transfer<B>> + Send + use<B> {
        read_exact(self.target.clone(), buffer, checked(offset))
    }

    /// Writes `buffer` at `offset`, as much of it as is taken at once. Returns the count of bytes,
    /// and the buffer.
    ///
    /// A lease is written by the fixed opcode. In a file that was opened for appending, the bytes
    /// go to its end.
    ///
    /// What a task awaits in turn happens in that order. What is in flight at the same time has
    /// none: of two writes to one place either may come last, and of two appends either may come
    /// first.
    ///
    /// # Errors
    ///
    /// `EIO`; `ENOSPC`, `EDQUOT`, `EFBIG`; `EBADF` for a file that isn't open for writing;
    /// `InvalidInput` for an empty lease, and with an
    /// [`AlignmentError`](ringhold_runtime::ops::AlignmentError) for what direct I/O can't take.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: some, all or none of the bytes may be written, and never others. Writing
    /// them again is harmless.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_WRITE`, since 5.6.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// let file = ringhold_fs::File::create_new(directory.path().join("file")).await?;
    /// let (count, buffer) = file.write_at("hello world", 5).await?;
    /// assert_eq!((count, buffer), (11, "hello world"));
    /// assert_eq!(file.statx().await?.len(), 16);
    /// file.write_at("HELLO", 5).await?; // It comes after "hello world".
    /// let (first, other) = tokio::join!(file.write_at("first", 0), file.write_at("other", 0));
    /// (first?, other?); // Either of them came last.
    /// let (_, bytes) = file.read_exact_at(vec![0; 16], 0).await?;
    /// assert!(bytes == b"firstHELLO world" || bytes == b"otherHELLO world");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    #[inline]
    pub fn write_at<B: IoBuf>(
        &self,
        buffer: B,
        offset: u64,
    ) -> impl Future<Output = Transfer<B>> + Send + Unpin + use<B> {
        self.target.write(buffer, checked(offset))
    }

    /// Writes all of `buffer` at `offset`. Returns its length, and the buffer.
    ///
    /// # Errors
    ///
    /// `WriteZero` where nothing more is taken; and as for [`write_at`](File::write_at).
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: some, all or none of the bytes may be written, and never others. Writing
    /// them again is harmless.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_WRITE`, since 5.6, as often as it takes.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// let (count, _) = file.write_all_at(vec![7; 100_000], 0).await?;
    /// assert_eq!(count, 100_000);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_all_at<B: IoBuf>(
        &self,
        buffer: B,
        offset: u64,
    ) -> impl Future<Output = Transfer<B>> + Send + use<B> {
        write_all(self.target.clone(), buffer, checked(offset))
    }

    /// Reads from `offset` into all of `buffers`, one after the other, as by
    /// [`read_at`](File::read_at). At most 1024 of them are filled at once.
    ///
    /// # Errors
    ///
    /// As for [`read_at`](File::read_at).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is consumed. The buffers of a dropped read are gone, leases back in their
    /// pool.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_READV`, since 5.1. Leases are not read into by a fixed opcode here.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// ringhold_fs::write(&path, "headerbody").await?;
    /// let file = ringhold_fs::File::open(&path).await?;
    /// let (count, parts) = file.readv_at(vec![vec![0; 6], vec![0; 4]], 0).await?;
    /// assert_eq!((count, &parts[0][..], &parts[1][..]), (10, &b"header"[..], &b"body"[..]));
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn readv_at<B: IoBufMut>(
        &self,
        buffers: Vec<B>,
        offset: u64,
    ) -> impl Future<Output = Transfer<Vec<B>>> + Send + Unpin + use<B> {
        let Target { descriptor, alignment, .. } = self.target.clone();
        Op::new(ReadVectored::new(descriptor, alignment, buffers, checked(offset)))
    }

    /// Writes all of `buffers` at `offset`, one after the other, as much as is taken at once; at
    /// most 1024 of them.
    ///
    /// # Errors
    ///
    /// As for [`write_at`](File::write_at).
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: some, all or none of the bytes may be written, and never others. Writing
    /// them again is harmless.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_WRITEV`, since 5.1. Leases are not written by a fixed opcode here.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// let (count, _) = file.writev_at(vec!["header", "body"], 0).await?;
    /// assert_eq!(count, 10);
    /// assert_eq!(ringhold_fs::read(&path).await?, b"headerbody");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn writev_at<B: IoBuf>(
        &self,
        buffers: Vec<B>,
        offset: u64,
    ) -> impl Future<Output = Transfer<Vec<B>>> + Send + Unpin + use<B> {
        let Target { descriptor, alignment, appends } = self.target.clone();
        let write = WriteVectored::new(descriptor, alignment, buffers, checked(offset));
        Op::new(write.appending(appends))
    }

    /// Reads from `offset` into a lease, which then has exactly what was read. Returns the count of
    /// bytes, 0 at the file's end, and the lease.
    ///
    /// # Errors
    ///
    /// As for [`read_at`](File::read_at); `InvalidInput` for a lease of a pool that isn't
    /// registered: this never becomes a plain read.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is consumed. The lease of a dropped read goes back to its pool once the kernel
    /// is done with it.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_READ_FIXED`, since 5.1.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// ringhold_fs::write(&path, "hello world").await?;
    /// let file = ringhold_fs::File::open(&path).await?;
    /// let lease = ringhold_runtime::lease(4096).await?;
    /// let (count, lease) = file.read_fixed(lease, 6).await?;
    /// assert_eq!((count, &lease[..]), (5, &b"world"[..]));
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    #[inline]
    pub fn read_fixed<B: FixedBufMut>(
        &self,
        buffer: B,
        offset: u64,
    ) -> impl Future<Output = Transfer<B>> + Send + Unpin + use<B> {
        Op::new(Fixed(self.target.reading(buffer, checked(offset))))
    }

    /// Reads from `offset` until the lease is filled to its capacity. Returns that capacity, and
    /// the lease.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` where the file ends before, with what there was in the lease; and as for
    /// [`read_fixed`](File::read_fixed).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is consumed. The lease of a dropped read goes back to its pool once the kernel
    /// is done with it.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_READ_FIXED`, since 5.1, as often as it takes.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// ringhold_fs::write(&path, "hello world").await?;
    /// let file = ringhold_fs::File::open(&path).await?;
    /// let (_, lease) = file.read_exact_fixed(ringhold_runtime::lease(5).await?, 0).await?;
    /// assert_eq!(&lease[..], b"hello");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn read_exact_fixed<B: FixedBufMut>(
        &self,
        buffer: B,
        offset: u64,
    ) -> impl Future<Output = Transfer<B>> + Send + use<B> {
        let target = self.target.clone();
        async move {
            if buffer.arena().is_none() {
                return Op::new(Fixed(target.reading(buffer, offset))).await;
            }
            read_exact(target, buffer, checked(offset)).await
        }
    }

    /// Writes what a lease is filled with at `offset`, as much of it as is taken at once. Returns
    /// the count of bytes, and the lease.
    ///
    /// # Errors
    ///
    /// As for [`write_at`](File::write_at); `InvalidInput` for an empty lease, and for a lease of a
    /// pool that isn't registered: this never becomes a plain write.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: some, all or none of the bytes may be written, and never others. The lease
    /// of a dropped write goes back to its pool once the kernel is done with it.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_WRITE_FIXED`, since 5.1.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// let mut lease = ringhold_runtime::lease(4096).await?;
    /// lease.extend_from_slice(b"hello");
    /// let (count, lease) = file.write_fixed(lease, 0).await?;
    /// assert_eq!((count, lease.capacity()), (5, 4096));
    /// assert_eq!(ringhold_fs::read(&path).await?, b"hello");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    #[inline]
    pub fn write_fixed<B: FixedBuf>(
        &self,
        buffer: B,
        offset: u64,
    ) -> impl Future<Output = Transfer<B>> + Send + Unpin + use<B> {
        Op::new(Fixed(self.target.writing(buffer, checked(offset))))
    }

    /// Writes all that a lease is filled with at `offset`. Returns its length, and the lease.
    ///
    /// # Errors
    ///
    /// `WriteZero` where nothing more is taken; and as for [`write_fixed`](File::write_fixed).
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: some, all or none of the bytes may be written, and never others. The lease
    /// of a dropped write goes back to its pool once the kernel is done with it.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_WRITE_FIXED`, since 5.1, as often as it takes.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// let empty = ringhold_runtime::lease(4096).await?;
    /// let failed = file.write_all_fixed(empty, 0).await.unwrap_err();
    /// assert_eq!(failed.error.kind(), std::io::ErrorKind::InvalidInput); // the lease is empty
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_all_fixed<B: FixedBuf>(
        &self,
        buffer: B,
        offset: u64,
    ) -> impl Future<Output = Transfer<B>> + Send + use<B> {
        let target = self.target.clone();
        async move {
            if buffer.arena().is_none() {
                return Op::new(Fixed(target.writing(buffer, offset))).await;
            }
            write_all(target, buffer, checked(offset)).await
        }
    }
}

impl Target {
    #[inline]
    fn reading<B>(&self, buffer: B, offset: u64) -> Read<B> {
        Read { file: self.descriptor.clone(), alignment: self.alignment, buffer, offset }
    }

    #[inline]
    fn writing<B>(&self, buffer: B, offset: u64) -> Write<B> {
        let Target { descriptor, alignment, appends } = self;
        let (file, alignment, appends) = (descriptor.clone(), *alignment, *appends);
        Write { file, alignment, appends, buffer, offset }
    }

    #[inline]
    pub(crate) fn read<B: IoBufMut>(&self, buffer: B, offset: u64) -> Op<Read<B>> {
        Op::new(self.reading(buffer, offset))
    }

    #[inline]
    pub(crate) fn write<B: IoBuf>(&self, buffer: B, offset: u64) -> Op<Write<B>> {
        Op::new(self.writing(buffer, offset))
    }

    /// A direct read of whole blocks that brings a part of one has met the file's end, and could
    /// not go on there anyway.
    fn ends_within_block(&self, count: usize) -> bool {
        self.alignment
            .is_some_and(|wanted| !(count as u64).is_multiple_of(u64::from(wanted.offset)))
    }
}

async fn read_exact<B: IoBufMut>(target: Target, mut buffer: B, offset: u64) -> Transfer<B> {
    let total = buffer.bytes_total();
    let mut filled = 0;
    while filled < total {
        let rest = buffer.slice(filled..total);
        match target.read(rest, offset + filled as u64).await {
            Ok((count, rest)) => {
                filled += count;
                buffer = rest.into_inner();
                if count == 0 || (filled < total && target.ends_within_block(count)) {
                    return Err(Failed { error: io::ErrorKind::UnexpectedEof.into(), buffer });
                }
            }
            Err(failed) => buffer = retry_or_fail(failed)?,
        }
    }
    Ok((total, buffer))
}

pub(crate) async fn write_all<B: IoBuf>(target: Target, mut buffer: B, offset: u64) -> Transfer<B> {
    let total = buffer.bytes_init();
    if total == 0 {
        // Whether that is a mistake depends on the buffer.
        return target.write(buffer, offset).await;
    }
    let mut written = 0;
    while written < total {
        let rest = buffer.slice(written..total);
        match target.write(rest, offset + written as u64).await {
            Ok((count, rest)) => {
                written += count;
                buffer = rest.into_inner();
                if count == 0 {
                    return Err(Failed { error: io::ErrorKind::WriteZero.into(), buffer });
                }
            }
            Err(failed) => buffer = retry_or_fail(failed)?,
        }
    }
    Ok((total, buffer))
}

/// The buffer to go on with after a signal; any other error is the caller's.
fn retry_or_fail<B>(failed: Failed<Slice<B>>) -> Result<B, Failed<B>> {
    let (error, buffer) = (failed.error, failed.buffer.into_inner());
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(buffer),
        _ => Err(Failed { error, buffer }),
    }
}
