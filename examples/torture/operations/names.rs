//! Names that come and go: many operations on few names, so that most meet what others left.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use runtime::fs::{self, DirBuilder};

use crate::world::{FILLER, Scene};

const NAMES: usize = 24;

/// What an operation may meet where others come and go.
const REFUSALS: [ErrorKind; 8] = [
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::NotADirectory,
    ErrorKind::IsADirectory,
    ErrorKind::DirectoryNotEmpty,
    // A directory has no second name, and isn't moved into itself.
    ErrorKind::PermissionDenied,
    ErrorKind::InvalidInput,
    ErrorKind::TooManyLinks,
];

impl Scene {
    fn name(&mut self) -> PathBuf {
        let name = format!("n{}", self.draws.below(NAMES));
        self.world.names().join(name)
    }

    fn may_fail<T>(&self, what: &str, result: io::Result<T>) -> Option<T> {
        self.check(what, result, &REFUSALS)
    }
}

pub async fn rename(mut scene: Scene) {
    let (from, to) = (scene.name(), scene.name());
    scene.may_fail("a rename", fs::rename(from, to).await);
}

pub async fn hard_link(mut scene: Scene) {
    let (from, to) = (scene.name(), scene.name());
    scene.may_fail("a link", fs::hard_link(from, to).await);
}

pub async fn symlink(mut scene: Scene) {
    let link = scene.name();
    // What is written by this name holds the same bytes.
    let target = scene.draws.pick(&["../wobbly", "../missing"]);
    scene.may_fail("a symbolic link", fs::symlink(target, &link).await);
    // It is `InvalidInput` for what is no link.
    let found = scene.may_fail("a link's target", fs::read_link(&link).await);
    let known = found.is_none_or(|found| found.starts_with(".."));
    scene.require(known, || "a link leads elsewhere".into());
}

pub async fn remove_file(mut scene: Scene) {
    let name = scene.name();
    scene.may_fail("an unlink", fs::remove_file(name).await);
}

pub async fn remove_dir(mut scene: Scene) {
    let name = scene.name();
    scene.may_fail("the removal of a directory", fs::remove_dir(name).await);
}

pub async fn create_dir(mut scene: Scene) {
    let name = scene.name();
    let made = match scene.draws.once_in(2) {
        true => fs::create_dir(name).await,
        false => DirBuilder::new().mode(0o700).create(name).await,
    };
    scene.may_fail("a new directory", made);
}

pub async fn create_dir_all(mut scene: Scene) {
    let below = scene.name().join("a").join("b");
    scene.may_fail("new directories", fs::create_dir_all(below).await);
}

pub async fn read_dir(mut scene: Scene) {
    let name = match scene.draws.once_in(2) {
        true => scene.world.names(),
        false => scene.name(),
    };
    let Some(mut entries) = scene.may_fail("a listing", fs::read_dir(name).await) else { return };
    while let Some(Some(entry)) = scene.may_fail("an entry", entries.next_entry().await) {
        scene.may_fail("an entry's kind", entry.file_type().await);
    }
}

pub async fn remove_dir_all(mut scene: Scene) {
    let name = scene.name();
    scene.may_fail("the removal of a tree", fs::remove_dir_all(name).await);
}

pub async fn ask_by_name(mut scene: Scene) {
    let name = scene.name();
    let follow = scene.draws.once_in(2);
    match scene.draws.below(6) {
        0 => drop(scene.may_fail("a metadata", fs::metadata(name).await)),
        1 => drop(scene.may_fail("a metadata", fs::symlink_metadata(name).await)),
        2 => drop(scene.may_fail("a statx", fs::statx(name, follow).await)),
        3 => drop(scene.may_fail("a question", fs::try_exists(name).await)),
        4 => drop(scene.may_fail("a canonical path", fs::canonicalize(name).await)),
        _ => {
            let permissions = Permissions::from_mode(scene.draws.pick(&[0o700, 0o755]));
            scene.may_fail("new permissions", fs::set_permissions(name, permissions).await);
        }
    }
}

pub async fn write(mut scene: Scene) {
    let name = scene.name();
    let length = scene.draws.up_to(10_000);
    scene.may_fail("a write", fs::write(name, vec![FILLER; length]).await);
}

pub async fn read(mut scene: Scene) {
    let name = scene.name();
    if let Some(bytes) = scene.may_fail("a read", fs::read(name).await) {
        scene.require_only("a file of changing name", &bytes, &[0, FILLER]);
    }
}
