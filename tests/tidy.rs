//! The style of the tree, as a test: what a reader relies on and no compiler checks.
//!
//! Every rule reports all of its violations at once, with file and line.

mod common;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tree::{File, code, files, none, root, words};

const COLUMNS: usize = 100;
const LINES_OF_A_FUNCTION: usize = 70;
const LINES_OF_A_FILE: usize = 500;
const LINES_OF_A_TEST_FILE: usize = 600;

/// The invariants that `docs/SAFETY.md` numbers.
const INVARIANTS: usize = 11;

/// How far above an unsafe block its comment may begin, in lines of the statement it is part of.
const LINES_UP_TO_A_COMMENT: usize = 8;

fn rust_files() -> Vec<File> {
    files(&["rs"])
}

#[test]
fn no_line_is_longer_than_a_hundred_columns() {
    let mut violations = Vec::new();
    for file in rust_files() {
        for (number, line) in file.lines() {
            let columns = line.chars().count();
            if columns > COLUMNS {
                violations.push(format!("{}:{number}: {columns} columns", file.path));
            }
        }
    }
    none("a line has at most 100 columns", violations);
}

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    let mut violations = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        let most = if file.is_test() { LINES_OF_A_TEST_FILE } else { LINES_OF_A_FILE };
        if lines > most {
            violations.push(format!("{}: {lines} lines, at most {most}", file.path));
        }
    }
    none("a file has at most 500 lines, a test file 600", violations);
}

/// The lines of each function, as `(first, last)`. It relies on rustfmt: the brace that ends an
/// item stands alone, as far in as the item.
fn functions(file: &File) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_function = !line.trim_start().starts_with("//")
            && words(code(line)).any(|word| word == "fn")
            && code(line).contains('(')
            && !code(line).trim_end().ends_with([';', '}', ',']);
        if !is_function {
            continue;
        }
        for (end, line) in lines.iter().enumerate().skip(index + 1) {
            let is_outer = !line.is_empty() && line.len() - line.trim_start().len() <= indent;
            if is_outer && (line.trim_end().ends_with(';') || line.trim() == "}") {
                found.push((index + 1, end + 1));
                break;
            }
        }
    }
    found
}

#[test]
fn no_function_is_longer_than_seventy_lines() {
    let mut violations = Vec::new();
    let mut count = 0;
    for file in rust_files() {
        for (first, last) in functions(&file) {
            count += 1;
            let lines = last - first + 1;
            if lines > LINES_OF_A_FUNCTION {
                violations.push(format!("{}:{first}: {lines} lines", file.path));
            }
        }
    }
    assert!(count > 500, "only {count} functions were found, so they are not found");
    none("a function has at most 70 lines", violations);
}

#[test]
fn every_file_says_what_it_is() {
    let mut violations = Vec::new();
    for file in rust_files() {
        if !file.text.starts_with("//! ") {
            violations.push(file.path);
        }
    }
    none("a file begins with a line of `//!`", violations);
}

#[test]
fn nothing_is_left_to_be_done() {
    // Put together here, so that this file does not violate its own rule.
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let macros = [concat!("to", "do!"), concat!("unimplemented", "!"), concat!("db", "g!")];
    let mut violations = Vec::new();
    for file in rust_files() {
        for (number, line) in file.lines() {
            let has_note = words(line).any(|word| notes.contains(&word));
            let has_macro = macros.iter().any(|name| line.contains(&format!("{name}(")));
            if has_note || has_macro {
                violations.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("no notes to ourselves", violations);
}

#[test]
fn layers_know_only_the_layers_below() {
    // Cargo enforces it between packages; development dependencies could hide a step upwards, and a
    // doctest is one, too.
    const FS: &str = "ringhold_fs";
    const NET: &str = "ringhold_net";
    const PROCESS: &str = "ringhold_process";
    const RUNTIME: &str = "ringhold_runtime";
    const BUFFERS: &str = "ringhold_buffers";
    const URING: &str = "ringhold_uring";
    let rules: [(&str, &[&str]); 8] = [
        ("runtime/kernel/", &[BUFFERS, RUNTIME, URING]),
        ("runtime/uring/", &[RUNTIME]),
        ("buffers/", &[RUNTIME, FS, NET, PROCESS, "ringhold", "io_uring", "tokio"]),
        ("runtime/", &[FS, NET, PROCESS, "tokio"]),
        ("fs/", &[NET, PROCESS, "ringhold", "io_uring"]),
        ("net/", &[FS, PROCESS, "ringhold", "io_uring"]),
        ("process/", &[FS, NET, "ringhold", "io_uring"]),
        ("benches/", &[RUNTIME, FS, NET, PROCESS, BUFFERS]),
    ];
    let mut violations = Vec::new();
    for file in rust_files() {
        for (folder, others) in rules {
            // The macros' crate writes the names of other crates into its output.
            if !file.path.starts_with(folder) || file.path.starts_with("runtime/macros/") {
                continue;
            }
            for (number, line) in file.lines() {
                let other = others.iter().find(|other| code(line).contains(&format!("{other}::")));
                // The channels' budget is tokio's, and has to be set below the channels.
                let is_budget = file.path == "runtime/task/coop.rs" && other == Some(&"tokio");
                let is_named = |other: &&&str| !is_budget && words(line).any(|it| it == **other);
                if let Some(other) = other.filter(is_named) {
                    violations.push(format!("{}:{number}: {other}", file.path));
                }
            }
        }
    }
    none("dependencies run one way", violations);
}

#[test]
fn only_the_builder_names_a_kernel() {
    let mut violations = Vec::new();
    for file in rust_files() {
        let may = ["runtime/builder.rs", "tests/tidy.rs"].contains(&&*file.path);
        for (number, line) in file.lines() {
            if code(line).contains("ringhold_uring") && !may {
                violations.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("`ringhold_uring` is named by the builder only, whose default it is", violations);
}

#[test]
fn only_the_kernels_folder_makes_system_calls() {
    let outside = ["runtime/uring/", "tests/", "benches/", "examples/"];
    let mut violations = Vec::new();
    for file in rust_files() {
        for (number, line) in file.lines() {
            let outside = file.is_test() || file.is_below(&outside);
            if code(line).contains("rustix::") && !outside {
                violations.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("`rustix` is named below runtime/uring/ only", violations);
}

/// ThreadSanitizer sees what std's types order only where `runtime/kernel/sync.rs` shows it.
#[test]
fn what_threads_meet_in_comes_from_one_file() {
    let mut violations = Vec::new();
    for file in rust_files() {
        let is_layer = file.is_below(&["runtime/", "buffers/", "fs/", "net/", "process/"]);
        if !is_layer || file.is_test() || file.is_below(&["runtime/kernel/sync", "runtime/sim/"]) {
            continue;
        }
        for (number, line) in file.lines() {
            let code = code(line);
            let is_named = ["OnceLock", "LazyLock", "Condvar", "RwLock", "Barrier"]
                .iter()
                .any(|name| code.contains(name));
            if code.contains("std::sync::") && is_named {
                violations.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("what threads meet in comes from runtime/kernel/sync.rs", violations);
}

#[test]
fn threads_are_started_in_one_file() {
    let mut violations = Vec::new();
    for file in rust_files() {
        let is_layer =
            file.is_below(&["runtime/", "buffers/", "fs/", "net/", "process/"]) && !file.is_test();
        // The simulator runs seeds side by side, each of them on one thread.
        let may = ["runtime/kernel/threads.rs", "runtime/sim/seeds.rs"].contains(&&*file.path);
        if !is_layer || may {
            continue;
        }
        for (number, line) in file.lines() {
            let starts = ["thread::spawn", "thread::Builder", "thread::scope"];
            if starts.iter().any(|start| code(line).contains(start)) {
                violations.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("threads are started in runtime/kernel/threads.rs only", violations);
}

/// Where a panic may be caught, told of or passed on, and where a waker may be kept bare: one that
/// is ours, or of whoever polls at this moment.
const FOREIGN_CODE: [(&str, &[&str]); 7] = [
    ("buffers/foreign.rs", &["catch_unwind", "io::stderr", "Waker"]),
    ("runtime/kernel/sync/modelled.rs", &["eprint"]),
    ("runtime/runtime.rs", &["resume_unwind"]),
    ("runtime/task/coop.rs", &["resume_unwind"]),
    ("runtime/task/join_set.rs", &["resume_unwind"]),
    ("runtime/sim/seeds.rs", &["resume_unwind"]),
    ("runtime/telling.rs", &["tracing::"]),
];

/// Wakers of our own, whose drop runs no foreign code.
const OUR_WAKERS: [(&str, &str); 2] = [
    ("runtime/signal/hub.rs", "everybody: Waker,"),
    ("runtime/task/raw.rs", "fn borrowed_waker(&self) -> Waker {"),
];

/// Whether a line speaks of a `Waker` by value, as something that is kept or handed over does.
fn has_bare_waker(line: &str) -> bool {
    let owned = [": Waker", "<Waker", "(Waker", "> Waker", ", Waker"];
    let is_type = |found: usize| {
        let after = line[found..].split("Waker").nth(1).unwrap_or("");
        !after.starts_with("::") && !after.starts_with(|it: char| it.is_alphanumeric())
    };
    let found = owned.iter().filter_map(|owned| line.find(owned)).find(|found| is_type(*found));
    found.is_some() && !line.trim_start().starts_with("use ") && !line.contains("task::{")
}

#[test]
fn foreign_code_is_run_in_one_way() {
    let layers = ["buffers/", "runtime/", "fs/", "net/", "process/"];
    let words = ["catch_unwind", "resume_unwind", "eprint", "io::stderr", "tracing::"];
    let faces = ["lib.rs", "select.rs", "transfer.rs"];
    let mut violations = Vec::new();
    for file in rust_files() {
        let is_layer = file.is_below(&layers) || faces.contains(&&*file.path);
        let is_model = file.path.starts_with("runtime/models/");
        if !is_layer || file.is_test() || is_model {
            continue;
        }
        let allowed = FOREIGN_CODE.iter().find(|(path, _)| *path == file.path);
        let allowed = allowed.map_or(&[][..], |(_, words)| words);
        // What a module tests is at its end.
        let lines =
            file.lines().take_while(|(_, line)| !line.trim_start().starts_with("mod tests {"));
        for (number, line) in lines {
            let code = code(line);
            let is_ours = |(path, text): &(&str, &str)| *path == file.path && code.contains(text);
            let is_named = |word: &&str| code.contains(*word) && !allowed.contains(word);
            let is_bare = has_bare_waker(code)
                && !allowed.contains(&"Waker")
                && !OUR_WAKERS.iter().any(is_ours);
            if words.iter().any(is_named) || is_bare {
                violations.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("panics are caught and told of, and wakers are kept, by buffers/foreign.rs", violations);
}

#[test]
fn no_file_is_dead() {
    let all = rust_files();
    let has_module = |path: PathBuf, name: &str| {
        let path = path.to_string_lossy().into_owned();
        let declares = |line: &str| {
            let line = code(line).trim();
            line.ends_with(&format!("mod {name};"))
        };
        all.iter().any(|file| file.path == path && file.text.lines().any(declares))
    };
    let mut violations = Vec::new();
    for file in &all {
        let path = Path::new(&file.path);
        let folder = path.parent().expect("a file is in a folder");
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        // Each of these is the root of a crate.
        let is_root = ["lib", "main"].contains(&name.as_str())
            || folder.ends_with("tests")
            || folder.ends_with("examples");
        if is_root {
            continue;
        }
        let (folder, name) = match name.as_str() {
            "mod" => {
                let own = folder.file_name().expect("a module has a name").to_string_lossy();
                (folder.parent().expect("a module has a parent"), own.into_owned())
            }
            _ => (folder, name),
        };
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| folder.join(parent));
        let mut alive = parents.into_iter().any(|parent| has_module(parent, &name));
        alive |= has_module(folder.with_extension("rs"), &name);
        if folder.ends_with("tests") {
            // What tests share is declared by those that use it.
            alive |= all.iter().any(|user| {
                Path::new(&user.path).parent() == Some(folder)
                    && has_module(PathBuf::from(&user.path), &name)
            });
        }
        if !alive {
            violations.push(file.path.clone());
        }
    }
    none("every file is a module of its crate", violations);
}

/// Whether a line holds an unsafe block or implements an unsafe trait.
fn is_unsafe(line: &str) -> bool {
    let code = code(line);
    code.contains("unsafe {") || code.trim_start().starts_with("unsafe impl")
}

/// The text of the `SAFETY:` comment that belongs to the unsafe code in line `index`.
fn safety_comment(lines: &[&str], index: usize) -> Option<String> {
    let from = index.saturating_sub(LINES_UP_TO_A_COMMENT);
    let start = (from..=index).rev().find(|&line| lines[line].contains("SAFETY:"))?;
    let comment = lines[start..].iter().take_while(|line| line.trim_start().starts_with("//"));
    Some(comment.copied().collect::<Vec<_>>().join(" "))
}

fn invariants(text: &str) -> impl Iterator<Item = usize> {
    words(text).filter_map(|word| word.strip_prefix('S')?.parse().ok())
}

#[test]
fn unsafe_code_is_in_named_files_and_argues_by_the_invariants() {
    let mut violations = Vec::new();
    for file in rust_files() {
        let lines: Vec<&str> = file.text.lines().collect();
        let is_named = file.text.contains("#![allow(unsafe_code)]");
        for (index, line) in lines.iter().enumerate() {
            if line.trim_start().starts_with("//") || !is_unsafe(line) || is_example(&file, line) {
                continue;
            }
            let place = format!("{}:{}", file.path, index + 1);
            if !is_named {
                violations.push(format!("{place}: the file does not allow unsafe code"));
            }
            match safety_comment(&lines, index) {
                None => violations.push(format!("{place}: no SAFETY comment")),
                // Tests make system calls of their own that have nothing to do with the runtime.
                Some(comment) if !file.is_test() && invariants(&comment).next().is_none() => {
                    violations.push(format!("{place}: cites no invariant: {comment}"));
                }
                Some(_) => {}
            }
        }
    }
    none("unsafe code cites docs/SAFETY.md", violations);
}

/// This file speaks of unsafe code in strings.
fn is_example(file: &File, line: &str) -> bool {
    file.path == "tests/tidy.rs" && line.contains('"')
}

#[test]
fn cited_invariants_exist() {
    let safety = fs::read_to_string(root().join("docs/SAFETY.md")).expect("it can be read");
    let mut violations = Vec::new();
    for number in 1..=INVARIANTS {
        if !safety.lines().any(|line| line.starts_with(&format!("## S{number}:"))) {
            violations.push(format!("docs/SAFETY.md has no heading of S{number}"));
        }
    }
    for file in files(&["rs", "md"]) {
        for (number, line) in file.lines() {
            for cited in invariants(line).filter(|cited| !(1..=INVARIANTS).contains(cited)) {
                violations.push(format!("{}:{number}: S{cited}", file.path));
            }
        }
    }
    none("cited invariants are in docs/SAFETY.md", violations);
}

#[test]
fn the_program_in_the_readme_is_the_first_example() {
    let readme = fs::read_to_string(root().join("README.md")).expect("it can be read");
    let example = fs::read_to_string(root().join("examples/first.rs")).expect("it can be read");
    let block = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(block, Some(example.as_str()), "the README's first program and examples/first.rs");
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut violations = Vec::new();
    for file in files(&["md"]) {
        for (number, line) in file.lines() {
            for rest in line.split("](").skip(1) {
                let target = rest.split(')').next().expect("a split has a first part");
                if target.contains("://") {
                    continue;
                }
                let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
                let folder = Path::new(&file.path).parent().expect("a file is in a folder");
                let path = match path {
                    "" => root().join(&file.path),
                    _ => root().join(folder).join(path),
                };
                let is_there = path.exists()
                    && (fragment.is_empty()
                        || fs::read_to_string(&path).is_ok_and(|text| {
                            text.lines().any(|it| it.starts_with('#') && anchor(it) == fragment)
                        }));
                if !is_there {
                    violations.push(format!("{}:{number}: {target}", file.path));
                }
            }
        }
    }
    none("links resolve", violations);
}

#[test]
fn what_the_documents_name_in_the_code_is_there() {
    let mut violations = Vec::new();
    let mut count = 0;
    for file in files(&["md"]) {
        for (number, line) in file.lines() {
            for name in line.split('`').skip(1).step_by(2) {
                let Some((path, item)) = name.split_once(".rs::") else { continue };
                count += 1;
                let path = format!("{path}.rs");
                let item = item.rsplit("::").next().expect("a split has a last part");
                let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
                if !text.lines().any(|it| words(code(it)).any(|word| word == item)) {
                    violations.push(format!("{}:{number}: {name}", file.path));
                }
            }
        }
    }
    assert!(count > 50, "only {count} names were found, so they are not found");
    none("`path.rs::name` is in that file", violations);
}

#[test]
fn every_planted_bug_has_its_place_in_the_code_as_it_is() {
    let mut check = Command::new(root().join("tests/mutants/run"));
    match check.arg("--check").output() {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout);
            // A line of its own for each, and the code in question, which is indented.
            let told =
                told.lines().filter(|line| line.starts_with("FAILED") || line.starts_with(' '));
            let violations = told.map(String::from).collect();
            none("the code that a planted bug changes is in one place of the tree", violations);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => common::skip("planted bugs have their places", &format!("bash: {error}")),
    }
}

/// The names of all functions in the tree.
fn names_of_functions() -> Vec<String> {
    let mut found = Vec::new();
    for file in rust_files() {
        for (_, line) in file.lines() {
            let mut words = words(code(line)).skip_while(|word| *word != "fn");
            found.extend(words.nth(1).map(String::from));
        }
    }
    found
}

#[test]
fn every_planted_bug_names_a_test_that_exists() {
    let functions = names_of_functions();
    let mut violations = Vec::new();
    for file in files(&["bug"]) {
        let test = file.text.lines().find_map(|line| line.strip_prefix("test: "));
        let mut arguments = test.unwrap_or_default().split_whitespace();
        while let Some(argument) = arguments.next() {
            let is_there = match argument {
                "-p" | "--example" => arguments.next().is_some(),
                "--lib" => true,
                "--test" => {
                    let name = format!("{}.rs", arguments.next().unwrap_or_default());
                    rust_files()
                        .iter()
                        .any(|it| Path::new(&it.path).ends_with(&name) && it.is_test())
                }
                // Of a path of modules the last part is the function, or a module.
                filter => {
                    let name = filter.rsplit("::").next().expect("a split has a first part");
                    functions.iter().any(|function| function.contains(name))
                }
            };
            if !is_there {
                violations.push(format!("{}: {argument}", file.path));
            }
        }
        if test.is_none() {
            violations.push(format!("{}: it names no test", file.path));
        }
    }
    none("the test of a planted bug exists", violations);
}
