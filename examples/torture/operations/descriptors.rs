//! What is done with an open file, beside reads and writes of known bytes.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use runtime::fs::{Advice, Allocation, File, OpenOptions};

use crate::steady::{BLOCK, BLOCKS};
use crate::world::{FILLER, PAGE, Scene};

/// The most bytes of the file whose length changes all the time.
const WOBBLY_BYTES: usize = 64 << 10;

pub async fn open(mut scene: Scene) {
    let mut options = OpenOptions::new();
    let draws = &mut scene.draws;
    options.read(draws.once_in(2)).write(draws.once_in(2)).append(draws.once_in(4));
    options.truncate(draws.once_in(4)).create(draws.once_in(2)).create_new(draws.once_in(4));
    options.direct(draws.once_in(4)).mode(draws.pick(&[0o600, 0o644, 0o666]));
    options.custom_flags(draws.pick(&[0, 0, libc::O_DSYNC, libc::O_NOATIME]));
    let path = scene.world.names().join(format!("n{}", scene.draws.below(24)));
    let opened = options.open(&path).await;
    let refusals = [
        ErrorKind::InvalidInput,
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::IsADirectory,
    ];
    let Some(file) = scene.check("an open", opened, &refusals) else { return };
    let stat = file.statx().await;
    scene.check("a statx", stat, &[]);
}

/// A file of a page that has no name any more.
async fn nameless(scene: &mut Scene) -> Option<File> {
    let path = scene.scratch("nameless");
    let made = runtime::fs::write(&path, [FILLER; PAGE]).await;
    scene.check("a new file", made, &[])?;
    let opened = File::options().read(true).write(true).open(&path).await;
    let file = scene.check("an open", opened, &[])?;
    // The name goes, and the file stays.
    let removed = runtime::fs::remove_file(&path).await;
    scene.check("an unlink", removed, &[]);
    Some(file)
}

pub async fn close(mut scene: Scene) {
    let Some(file) = nameless(&mut scene).await else { return };
    let read = match scene.draws.once_in(2) {
        true => Some(file.read_at(vec![0; 16], 0)),
        false => None,
    };
    let closed = file.close().await;
    scene.check("a close", closed, &[]);
    // A read that was made before keeps the file open.
    if let Some(read) = read {
        let read = read.await.map_err(|failed| failed.error);
        if let Some((count, bytes)) = scene.check("a read after the close", read, &[]) {
            scene.require(count == 16, || format!("a read brought {count} of 16 bytes"));
            scene.require_only("a read after the close", &bytes, &[FILLER]);
        }
    }
}

pub async fn try_clone(mut scene: Scene) {
    let Some(file) = nameless(&mut scene).await else { return };
    let cloned = file.try_clone().await;
    let Some(cloned) = scene.check("a clone", cloned, &[]) else { return };
    drop(file);
    let read = cloned.read_exact_at(vec![0; PAGE], 0).await.map_err(|failed| failed.error);
    if let Some((_, bytes)) = scene.check("a read of a clone", read, &[]) {
        scene.require_only("a read of a clone", &bytes, &[FILLER]);
    }
}

pub async fn into_std(mut scene: Scene) {
    let Some(file) = nameless(&mut scene).await else { return };
    let file = match scene.draws.once_in(2) {
        true => file.into_std().await,
        false => match file.try_into_std() {
            Ok(file) => file,
            Err(_) => return scene.require(false, || "an idle file is not given away".into()),
        },
    };
    let length = file.metadata().map(|metadata| metadata.len());
    scene.require(length.is_ok_and(|length| length == PAGE as u64), || "a length is wrong".into());
    let read = File::from_std(file).read_at(vec![0; 16], 4000).await;
    scene.check("a read of a file that came back", read.map_err(|failed| failed.error), &[]);
}

pub async fn sync(mut scene: Scene) {
    let file = &scene.world.steady[scene.draws.below(2)].file;
    // A device may take its time, so most of them ask for what can't be synced.
    let synced = match scene.draws.below(32) {
        0 => file.sync_all().await,
        1 => file.sync_data().await,
        _ => scene.world.silent.reader.sync_data().await,
    };
    scene.check("a sync", synced, &[ErrorKind::InvalidInput]);
}

pub async fn ask(mut scene: Scene) {
    let files = &scene.world.steady;
    let file = &files[scene.draws.below(files.len())].file;
    let length = match scene.draws.once_in(2) {
        true => scene.check("a statx", file.statx().await, &[]).map(|stat| stat.len()),
        false => scene.check("a metadata", file.metadata().await, &[]).map(|stat| stat.len()),
    };
    let expected = (BLOCKS * BLOCK) as u64;
    scene.require(length.is_none_or(|length| length == expected), || {
        format!("the length of a steady file is {length:?}")
    });
}

pub async fn advise(mut scene: Scene) {
    let advice = scene.draws.pick(&[
        Advice::Normal,
        Advice::Sequential,
        Advice::Random,
        Advice::WillNeed,
        Advice::DontNeed,
        Advice::NoReuse,
    ]);
    let offset = (scene.draws.below(BLOCKS) * BLOCK) as u64;
    let advised = scene.world.steady[0].file.advise(offset, BLOCK as u32, advice).await;
    scene.check("an advice", advised, &[]);
}

pub async fn set_attributes(mut scene: Scene) {
    let file = &scene.world.wobbly;
    let set = match scene.draws.once_in(2) {
        true => file.set_permissions(Permissions::from_mode(0o640)).await,
        false => file.set_modified(SystemTime::UNIX_EPOCH).await,
    };
    scene.check("new attributes", set, &[]);
}

pub async fn set_len(mut scene: Scene) {
    let length = scene.draws.below(WOBBLY_BYTES) as u64;
    let set = scene.world.wobbly.set_len(length).await;
    scene.check("a truncate", set, &[]);
}

pub async fn allocate(mut scene: Scene) {
    let how = scene.draws.pick(&[
        Allocation::Extend,
        Allocation::KeepLength,
        Allocation::PunchHole,
        Allocation::Zero,
    ]);
    let offset = scene.draws.below(WOBBLY_BYTES) as u64;
    let length = scene.draws.up_to(4 * PAGE) as u64;
    let allocated = scene.world.wobbly.allocate(offset, length, how).await;
    scene.check("an allocation", allocated, &[ErrorKind::Unsupported]);
}

pub async fn wobbly_read(mut scene: Scene) {
    let offset = scene.draws.below(WOBBLY_BYTES) as u64;
    let Some(lease) = scene.lease(4).await else { return };
    let read = scene.world.wobbly.read_fixed(lease, offset).await;
    if let Some((count, lease)) = scene.check("a read", read.map_err(|failed| failed.error), &[]) {
        scene.require(count == lease.len(), || format!("{count} bytes fill {}", lease.len()));
        scene.require_only("a file that changes", &lease, &[0, FILLER]);
    }
}

pub async fn wobbly_write(mut scene: Scene) {
    let offset = scene.draws.below(WOBBLY_BYTES) as u64;
    let Some(mut lease) = scene.lease(4).await else { return };
    lease.resize(scene.draws.up_to(lease.capacity()), FILLER);
    let written = scene.world.wobbly.write_fixed(lease, offset).await;
    scene.check("a write", written.map_err(|failed| failed.error), &[]);
}
