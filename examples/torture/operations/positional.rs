//! Reads and writes at an offset, of files whose every byte is known.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use runtime::buffers::{Failed, FixedBuf, FixedBufMut, IoBuf, IoBufMut, Lease};
use runtime::fs::File;

use crate::steady::{BLOCK, BLOCKS, Steady, Writing};
use crate::tally::Counted;
use crate::world::Scene;

type Transfer<B> = Result<(usize, B), Failed<B>>;

/// Blocks of a file, one after the other.
struct Span {
    steady: Arc<Steady>,
    first: usize,
    count: usize,
}

impl Span {
    /// Of any file if the buffer is aligned, and else of one that is read through the page cache.
    fn draw(scene: &mut Scene, aligned: bool) -> Span {
        let files = &scene.world.steady;
        let mut steady = &files[scene.draws.below(files.len())];
        if steady.direct && !aligned {
            steady = &files[0];
        }
        let count = scene.draws.up_to(scene.world.lease_pages);
        let first = scene.draws.below(BLOCKS - count + 1);
        Span { steady: steady.clone(), first, count }
    }

    fn file(&self) -> &File {
        &self.steady.file
    }

    fn offset(&self) -> u64 {
        (self.first * BLOCK) as u64
    }

    fn length(&self) -> usize {
        self.count * BLOCK
    }

    /// Awaits a read, and checks what it brings.
    async fn read<B: AsRef<[u8]>>(
        &self,
        scene: &Scene,
        exact: bool,
        read: impl Future<Output = Transfer<B>>,
    ) {
        let floors = self.steady.begin_read(self.first, self.count);
        let result = read.await.map_err(|failed| failed.error);
        let Some((count, buffer)) = scene.check("a read", result, &[]) else { return };
        let whole = if exact { count == self.length() } else { count > 0 };
        scene.require(whole, || format!("a read brought {count} of {} bytes", self.length()));
        let bytes = &buffer.as_ref()[..count.min(self.length())];
        scene.world.tally.verified_bytes.add(bytes.len() as u64);
        if let Err(what) = self.steady.end_read(self.first, &floors, bytes) {
            scene.require(false, || what);
        }
    }

    /// Begins a write of new versions of the blocks.
    fn begin_write(&self) -> (Vec<Writing>, Vec<u8>) {
        let mut writings = Vec::new();
        let mut contents = Vec::new();
        for block in self.first..self.first + self.count {
            let (writing, bytes) = self.steady.begin_write(block);
            writings.push(writing);
            contents.extend_from_slice(&bytes);
        }
        (writings, contents)
    }

    /// Looks at what became of a write, and gives the buffer back.
    fn finish<B>(
        &self,
        scene: &Scene,
        all: bool,
        writings: Vec<Writing>,
        result: Transfer<B>,
    ) -> Option<B> {
        let result = result.map_err(|failed| failed.error);
        let (count, buffer) = scene.check("a write", result, &[])?;
        let whole = if all { count == self.length() } else { count > 0 };
        scene.require(whole, || format!("a write took {count} of {} bytes", self.length()));
        for writing in writings.into_iter().take(count / BLOCK) {
            writing.finish();
        }
        Some(buffer)
    }

    /// A lease with new versions of the blocks.
    async fn lease_to_write(&self, scene: &Scene) -> Option<(Vec<Writing>, Lease)> {
        let mut lease = scene.lease(self.count).await?;
        let (writings, contents) = self.begin_write();
        lease.extend_from_slice(&contents);
        Some((writings, lease))
    }
}

pub async fn read_at(mut scene: Scene) {
    let span = Span::draw(&mut scene, false);
    let (length, offset, file) = (span.length(), span.offset(), span.file());
    match scene.draws.below(4) {
        0 => span.read(&scene, false, file.read_at(vec![0xEE; length], offset)).await,
        1 => {
            span.read(&scene, false, file.read_at(vec![0xEE; length].into_boxed_slice(), offset))
                .await
        }
        2 => span.read(&scene, false, file.read_at(BytesMut::with_capacity(length), offset)).await,
        _ => {
            let Some(lease) = scene.lease(span.count).await else { return };
            span.read(&scene, false, file.read_at(lease, offset)).await;
        }
    }
}

async fn read_exactly<B: IoBufMut + AsRef<[u8]>>(scene: &Scene, span: &Span, buffer: B) {
    span.read(scene, true, span.file().read_exact_at(buffer, span.offset())).await;
}

pub async fn read_exact_at(mut scene: Scene) {
    let leased = scene.draws.once_in(2);
    let span = Span::draw(&mut scene, leased);
    if !leased {
        return read_exactly(&scene, &span, vec![0xEE; span.length()].into_boxed_slice()).await;
    }
    let Some(lease) = scene.lease(span.count).await else { return };
    read_exactly(&scene, &span, lease).await;
}

pub async fn readv_at(mut scene: Scene) {
    let span = Span::draw(&mut scene, false);
    // Parts that end within blocks.
    let cut = scene.draws.up_to(span.length() - 1);
    let parts: Vec<Vec<u8>> = [cut, span.length() - cut].map(|length| vec![0xEE; length]).into();
    let read = span.file().readv_at(parts, span.offset());
    let joined = async {
        let (count, parts) =
            read.await.map_err(|failed| Failed { error: failed.error, buffer: vec![] })?;
        Ok((count, parts.concat()))
    };
    span.read(&scene, false, joined).await;
}

async fn read_by_fixed<B: FixedBufMut + AsRef<[u8]>>(
    scene: &Scene,
    span: &Span,
    buffer: B,
    exact: bool,
) {
    let (file, offset) = (span.file(), span.offset());
    match exact {
        true => span.read(scene, true, file.read_exact_fixed(buffer, offset)).await,
        false => span.read(scene, false, file.read_fixed(buffer, offset)).await,
    }
}

async fn read_lease(mut scene: Scene, exact: bool) {
    let span = Span::draw(&mut scene, true);
    let Some(mut lease) = scene.lease(span.count).await else { return };
    if scene.draws.once_in(2) {
        lease.resize(span.length(), 0xEE);
    }
    read_by_fixed(&scene, &span, lease, exact).await;
}

pub async fn read_fixed(scene: Scene) {
    read_lease(scene, false).await;
}

pub async fn read_exact_fixed(scene: Scene) {
    read_lease(scene, true).await;
}

async fn write(mut scene: Scene, all: bool) {
    let span = Span::draw(&mut scene, false);
    let (writings, contents) = span.begin_write();
    let (file, offset) = (span.file(), span.offset());
    if scene.draws.once_in(2) {
        let result = match all {
            true => file.write_all_at(contents, offset).await,
            false => file.write_at(contents, offset).await,
        };
        span.finish(&scene, all, writings, result);
        return;
    }
    let (counted, armed) = Counted::new(contents, &scene.world.tally, scene.armed);
    let buffer = Bytes::from_owner(counted);
    let result = match all {
        true => file.write_all_at(buffer, offset).await,
        false => file.write_at(buffer, offset).await,
    };
    // It may panic where the runtime frees it, and here that is not the runtime.
    armed.store(false, Ordering::SeqCst);
    span.finish(&scene, all, writings, result);
}

pub async fn write_at(scene: Scene) {
    write(scene, false).await;
}

pub async fn write_all_at(scene: Scene) {
    write(scene, true).await;
}

pub async fn writev_at(mut scene: Scene) {
    let span = Span::draw(&mut scene, false);
    let (writings, contents) = span.begin_write();
    let cut = scene.draws.up_to(span.length() - 1);
    let parts = vec![contents[..cut].to_vec(), contents[cut..].to_vec()];
    let result = span.file().writev_at(parts, span.offset()).await;
    span.finish(&scene, false, writings, result);
}

async fn write_by_fixed<B: FixedBuf>(
    scene: &Scene,
    span: &Span,
    writings: Vec<Writing>,
    buffer: B,
    all: bool,
) {
    let (file, offset) = (span.file(), span.offset());
    let result = match all {
        true => file.write_all_fixed(buffer, offset).await,
        false => file.write_fixed(buffer, offset).await,
    };
    span.finish(scene, all, writings, result);
}

async fn write_lease(mut scene: Scene, all: bool) {
    let span = Span::draw(&mut scene, true);
    let Some((writings, lease)) = span.lease_to_write(&scene).await else { return };
    match scene.draws.once_in(4) {
        true => write_by_fixed(&scene, &span, writings, lease.slice(..span.length()), all).await,
        false => write_by_fixed(&scene, &span, writings, lease, all).await,
    }
}

pub async fn write_fixed(scene: Scene) {
    write_lease(scene, false).await;
}

pub async fn write_all_fixed(scene: Scene) {
    write_lease(scene, true).await;
}

pub async fn write_frozen(mut scene: Scene) {
    let span = Span::draw(&mut scene, true);
    let Some((writings, lease)) = span.lease_to_write(&scene).await else { return };
    let expected = lease.to_vec();
    let frozen = match lease.freeze() {
        Ok(frozen) => frozen,
        Err(error) => return write_by_fixed(&scene, &span, writings, error.lease, true).await,
    };
    let kept = frozen.clone();
    match scene.draws.once_in(2) {
        true => write_by_fixed(&scene, &span, writings, frozen, true).await,
        false => {
            let result: io::Result<_> = write_plainly(&span, frozen).await;
            if scene.check("a write", result, &[]).is_some() {
                writings.into_iter().for_each(Writing::finish);
            }
        }
    }
    scene.require(kept[..] == expected[..], || "frozen bytes changed".into());
}

async fn write_plainly<B: IoBuf>(span: &Span, buffer: B) -> io::Result<()> {
    let written = span.file().write_all_at(buffer, span.offset()).await;
    written.map(drop).map_err(|failed| failed.error)
}
