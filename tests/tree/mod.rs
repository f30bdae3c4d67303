//! The text files of the tree, for tests that read them.

#![allow(dead_code)] // Each test file is a program that uses a part of this.

use std::fs;
use std::path::PathBuf;

/// A text file of the tree.
pub struct File {
    /// From the root, with slashes.
    pub path: String,
    pub text: String,
}

impl File {
    /// Tests may be longer, and may do by themselves what the layers may not.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().expect("a path has a name");
        self.path.starts_with("tests/") || self.path.contains("/tests/") || name == "tests.rs"
    }

    pub fn is_below(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }

    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with one of the `extensions`, but for what is built and what git keeps.
pub fn files(extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the tree can be listed") {
            let path = entry.expect("the tree can be listed").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
                continue;
            }
            let extension = path.extension().map(|it| it.to_string_lossy().into_owned());
            if extension.is_some_and(|it| extensions.contains(&it.as_str())) {
                let text = fs::read_to_string(&path).expect("it is text");
                let path = path.strip_prefix(root()).expect("it is in the tree");
                found.push(File { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(!found.is_empty(), "there is no file with one of {extensions:?}");
    found
}

#[track_caller]
pub fn none(rule: &str, violations: Vec<String>) {
    let count = violations.len();
    assert!(count == 0, "{rule}: {count} violations\n  {}", violations.join("\n  "));
}

/// The part of a line that is not a comment. A `//` within a string counts as one, which only ever
/// hides a violation.
pub fn code(line: &str) -> &str {
    line.split("//").next().expect("a split has a first part")
}

/// The identifiers and numbers of a text.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '_')
}
