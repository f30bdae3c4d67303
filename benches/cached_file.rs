//! The file that `read` reads: stamped, written back, in the page cache, and gone after the run.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::load::{PAGE_BYTES, page_stamp};

/// `f_type` of a tmpfs, from linux/magic.h.
const TMPFS_MAGIC: u64 = 0x0102_1994;

#[derive(Debug)]
pub struct CachedFile {
    file: NamedTempFile,
}

impl CachedFile {
    /// Makes the file in `directory`, each page stamped with its number, and says on stderr where
    /// it is.
    pub fn create(directory: PathBuf, pages: u64) -> io::Result<Self> {
        let file =
            tempfile::Builder::new().prefix("ringhold-bench-").tempfile_in(&directory).map_err(
                |error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())),
            )?;
        let created = Self { file };
        created.fill(pages)?;
        eprintln!("reading from {} ({} MiB)", created.path().display(), pages / 256);
        if rustix::fs::fstatfs(created.file.as_file())?.f_type as u64 == TMPFS_MAGIC {
            eprintln!("warning: this is a tmpfs, where the kernel hands reads to worker threads;");
            eprintln!("warning: name a directory on a disk's file system with --directory");
        }
        Ok(created)
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn fill(&self, pages: u64) -> io::Result<()> {
        let mut file: &File = self.file.as_file();
        let mut page = [0_u8; PAGE_BYTES];
        let mut writer = io::BufWriter::with_capacity(1 << 20, file);
        for index in 0..pages {
            page[..8].copy_from_slice(&page_stamp(index * PAGE_BYTES as u64).to_le_bytes());
            writer.write_all(&page)?;
        }
        writer.flush()?;
        drop(writer);
        // Written back now, so that no write-back runs beside the measurements; read once, so that
        // it is cached.
        file.sync_all()?;
        file.rewind()?;
        let mut chunk = vec![0_u8; 1 << 20];
        while file.read(&mut chunk)? > 0 {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn every_page_bears_its_own_stamp_and_the_file_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let cached = CachedFile::create(directory.path().to_path_buf(), 3).unwrap();
        let path = cached.path().to_path_buf();
        let file = File::open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 12_288);
        let mut stamp = [0; 8];
        file.read_exact_at(&mut stamp, 8192).unwrap();
        assert_eq!(u64::from_le_bytes(stamp), 0x7374_616d_7000_0002);
        drop(cached);
        assert!(!path.exists());
    }
}
