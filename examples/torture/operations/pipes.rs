//! Reads that wait for somebody else, or for ever.

use runtime::io::AsyncReadExt;

use crate::world::{PIPED, Pipe, Scene};

pub async fn silent_read(mut scene: Scene) {
    if scene.draws.once_in(2) {
        let read = scene.world.silent.reader.read_at(vec![0; 64], 0).await;
        return scene.require(false, || format!("a read of a silent pipe gave {read:?}"));
    }
    // A pipe of its own, which goes with the read.
    let Some(mut pipe) = scene.check("a pipe", Pipe::new(), &[]) else { return };
    let read = pipe.reader.read(&mut [0; 64]).await;
    scene.require(false, || format!("a read of a silent pipe gave {read:?}"));
}

pub async fn silent_read_fixed(scene: Scene) {
    let Some(lease) = scene.lease(1).await else { return };
    let read = scene.world.silent.reader.read_fixed(lease, 0).await;
    scene.require(false, || format!("a fixed read of a silent pipe gave {read:?}"));
}

pub async fn piped_read(mut scene: Scene) {
    let buffer = Vec::with_capacity(scene.draws.up_to(1_000));
    let read = scene.world.busy.reader.read_at(buffer, 0).await;
    if let Some((count, bytes)) = scene.check("a pipe", read.map_err(|failed| failed.error), &[]) {
        scene.require(count > 0, || "a pipe with a writer has ended".into());
        scene.require_only("a pipe", &bytes[..count], &[PIPED]);
    }
}

pub async fn piped_write(mut scene: Scene) {
    let length = scene.draws.up_to(1_000);
    if scene.draws.once_in(2) {
        let written = scene.world.busy.writer.write_at(vec![PIPED; length], 0).await;
        scene.check("a pipe", written.map_err(|failed| failed.error), &[]);
        return;
    }
    let Some(mut lease) = scene.lease(1).await else { return };
    lease.resize(length, PIPED);
    let written = scene.world.busy.writer.write_fixed(lease, 0).await;
    scene.check("a pipe", written.map_err(|failed| failed.error), &[]);
}
