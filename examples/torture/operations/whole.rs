//! Whole files: through a cursor, by a call, copied, appended to, and in trees.

use std::io::{ErrorKind, SeekFrom};

use runtime::fs::{self, File};
use runtime::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};

use crate::draws::Draws;
use crate::world::{FILLER, Scene};

/// Text of a drawn length.
fn text(draws: &mut Draws, most: usize) -> Vec<u8> {
    let mut own = draws.fork();
    (0..draws.up_to(most)).map(|_| b'a' + own.below(26) as u8).collect()
}

/// The first bytes that differ, in words.
fn difference(found: &[u8], expected: &[u8]) -> String {
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    format!(
        "{} bytes where {} were written, other from byte {at:?} on",
        found.len(),
        expected.len()
    )
}

impl Scene {
    fn require_equal(&self, what: &str, found: &[u8], expected: &[u8]) {
        self.world.tally.verified_bytes.add(found.len() as u64);
        self.require(found == expected, || format!("{what}: {}", difference(found, expected)));
    }
}

pub async fn cursor(mut scene: Scene) {
    let path = scene.scratch("cursor");
    let opened = File::create_new(&path).await;
    let Some(mut file) = scene.check("a new file", opened, &[]) else { return };
    file.set_max_buf_size(scene.draws.pick(&[1000, 4096, 2 << 20]));
    let bytes = text(&mut scene.draws, 20_000);
    let (front, back) = bytes.split_at(scene.draws.below(bytes.len()));
    for part in [front, back] {
        scene.check("a write through the cursor", file.write_all(part).await, &[]);
    }
    scene.check("a flush", file.flush().await, &[]);
    let mut found = Vec::new();
    scene.check("a seek", file.seek(SeekFrom::Start(0)).await, &[]);
    let read = match scene.draws.once_in(2) {
        true => file.read_to_end(&mut found).await,
        false => {
            let cloned = file.try_clone().await;
            let Some(cloned) = scene.check("a clone", cloned, &[]) else { return };
            BufReader::new(cloned).read_to_end(&mut found).await
        }
    };
    scene.check("a read through the cursor", read, &[]);
    scene.require_equal("a cursor", &found, &bytes);
    let end = file.seek(SeekFrom::End(0)).await;
    let end = scene.check("a seek", end, &[]);
    scene.require(end == Some(bytes.len() as u64), || format!("the end is {end:?}"));
    scene.check("an unlink", fs::remove_file(&path).await, &[]);
}

/// A file that is dropped with a write behind its cursor.
pub async fn dropped_cursor(mut scene: Scene) {
    let path = scene.scratch("dropped");
    let opened = File::create_new(&path).await;
    let Some(mut file) = scene.check("a new file", opened, &[]) else { return };
    let length = scene.draws.up_to(10_000);
    scene.check("a write", file.write_all(&vec![FILLER; length]).await, &[]);
    drop(file);
    let found = fs::read(&path).await;
    let Some(found) = scene.check("a read", found, &[]) else { return };
    scene.require(found.len() <= length, || format!("{} bytes of {length}", found.len()));
    scene.require_only("a file that was dropped", &found, &[FILLER]);
}

pub async fn appending(mut scene: Scene) {
    let path = scene.scratch("appended");
    let opened = File::options().append(true).create(true).open(&path).await;
    let Some(mut file) = scene.check("an open", opened, &[]) else { return };
    let mut expected = Vec::new();
    for _ in 0..scene.draws.up_to(4) {
        let bytes = text(&mut scene.draws, 3_000);
        expected.extend_from_slice(&bytes);
        scene.check("an append", file.write_all(&bytes).await, &[]);
    }
    let bytes = text(&mut scene.draws, 3_000);
    expected.extend_from_slice(&bytes);
    scene.check("a flush", file.flush().await, &[]);
    // Wherever it is said to go, it goes to the end.
    let written = file.write_all_at(bytes, 0).await.map_err(|failed| failed.error);
    scene.check("an append", written, &[]);
    scene.check("a close", file.close().await, &[]);
    let found = fs::read(&path).await;
    let Some(found) = scene.check("a read", found, &[]) else { return };
    scene.require_equal("a file that was appended to", &found, &expected);
    scene.check("an unlink", fs::remove_file(&path).await, &[]);
}

pub async fn write_and_read(mut scene: Scene) {
    let path = scene.scratch("whole");
    let bytes = text(&mut scene.draws, 50_000);
    scene.check("a write", fs::write(&path, &bytes).await, &[]);
    let found = match scene.draws.once_in(2) {
        true => fs::read(&path).await,
        false => fs::read_to_string(&path).await.map(String::into_bytes),
    };
    let Some(found) = scene.check("a read", found, &[]) else { return };
    scene.require_equal("a whole file", &found, &bytes);
    scene.check("an unlink", fs::remove_file(&path).await, &[]);
    let gone = fs::try_exists(&path).await;
    let gone = scene.check("a question", gone, &[]);
    scene.require(gone == Some(false), || "a file is there after its unlink".into());
}

pub async fn copy(mut scene: Scene) {
    let (from, to) = (scene.scratch("from"), scene.scratch("to"));
    let bytes = text(&mut scene.draws, 100_000);
    scene.check("a write", fs::write(&from, &bytes).await, &[]);
    let copied = fs::copy(&from, &to).await;
    let Some(copied) = scene.check("a copy", copied, &[]) else { return };
    scene.require(copied == bytes.len() as u64, || format!("{copied} bytes were copied"));
    let found = fs::read(&to).await;
    let Some(found) = scene.check("a read", found, &[]) else { return };
    scene.require_equal("a copy", &found, &bytes);
    for path in [from, to] {
        scene.check("an unlink", fs::remove_file(&path).await, &[]);
    }
}

pub async fn directory_tree(mut scene: Scene) {
    let root = scene.scratch("tree");
    let leaf = root.join("a").join("b");
    scene.check("directories", fs::create_dir_all(&leaf).await, &[]);
    let files = scene.draws.up_to(6);
    for number in 0..files {
        let written = fs::write(leaf.join(number.to_string()), b"leaf").await;
        scene.check("a leaf", written, &[]);
    }
    let listed = fs::read_dir(&leaf).await;
    let Some(mut entries) = scene.check("a listing", listed, &[]) else { return };
    let mut found = 0;
    while let Some(Some(entry)) = scene.check("an entry", entries.next_entry().await, &[]) {
        let kind = scene.check("a kind", entry.file_type().await, &[]);
        scene.require(kind.is_some_and(|kind| kind.is_file()), || "a leaf is no file".into());
        let length = scene.check("an entry", entry.metadata().await, &[]).map(|found| found.len());
        scene.require(length == Some(4), || format!("a leaf has {length:?} bytes"));
        found += 1;
    }
    scene.require(found == files, || format!("{found} of {files} entries are listed"));
    scene.check("the removal of a tree", fs::remove_dir_all(&root).await, &[]);
    let opened = File::open(&root).await.map(drop).map_err(|error| error.kind());
    scene
        .require(opened == Err(ErrorKind::NotFound), || "a tree is there after its removal".into());
}
