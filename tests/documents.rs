//! What the documents say of the code is so, as far as a program can tell: what they name exists,
//! what they grade is graded alike in the code, and what they count is counted.

mod tree;

use std::collections::BTreeSet;
use std::fs;

use tree::{File, code, files, none, root, words};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("it is in the tree")
}

/// A text without its fenced blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// What stands between backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Every word of what is built, tested and run.
fn words_of_the_code() -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for file in files(&["rs", "toml"]) {
        found.extend(words(&file.text).map(String::from));
    }
    for path in [".ci/run", ".ci/coverage", "tests/mutants/run"] {
        found.extend(words(&read(path)).map(String::from));
    }
    found
}

#[test]
fn paths_that_the_documents_name_exist() {
    let mut violations = Vec::new();
    let mut count = 0;
    for file in files(&["md"]) {
        // Records tell of the day they were written on.
        if file.path.starts_with("docs/decisions/") {
            continue;
        }
        for name in prose(&file.text).lines().flat_map(quoted) {
            let path = name.split("::").next().expect("a split has a first part");
            let is_path = path.contains('/')
                && !path.starts_with(['/', '-'])
                && path.chars().all(|it| it.is_alphanumeric() || "_-./".contains(it));
            if is_path {
                count += 1;
                if !root().join(path).exists() {
                    violations.push(format!("{}: {name}", file.path));
                }
            }
        }
    }
    assert!(count > 200, "only {count} paths were found, so they are not found");
    none("a path in a document exists", violations);
}

/// Whether a file has a function of this name that its harness runs.
fn is_test(file: &str, name: &str) -> bool {
    let lines: Vec<&str> = file.lines().collect();
    let declares = |line: &str| {
        let mut words = words(code(line)).skip_while(|word| *word != "fn");
        words.nth(1) == Some(name)
    };
    match lines.iter().position(|line| declares(line)) {
        Some(at) => {
            let above = lines[..at].iter().rev();
            above.take_while(|line| line.trim().starts_with("#[")).any(|line| line.contains("test"))
        }
        // A macro makes it of its name.
        None => lines.iter().any(|line| words(code(line)).any(|word| word == name)),
    }
}

#[test]
fn what_a_promise_and_an_invariant_name_as_tests_are_tests() {
    let mut violations = Vec::new();
    let mut count = 0;
    for document in ["docs/PROMISES.md", "docs/SAFETY.md", "docs/CANCELLATION.md"] {
        for name in read(document).lines().flat_map(quoted) {
            let Some((path, name)) = name.split_once(".rs::") else { continue };
            let path = format!("{path}.rs");
            let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
            let is_among_tests = File { path: path.clone(), text: String::new() }.is_test();
            // The rows of tokio's table are made into tests for two runtimes by one that has them.
            let is_row = path.starts_with("tests/rows/");
            if is_among_tests || path.starts_with("runtime/models/") {
                count += 1;
                if !is_row && !is_test(&text, name) {
                    violations.push(format!("{document}: {path}::{name}"));
                }
            }
        }
    }
    assert!(count > 150, "only {count} tests were found, so they are not found");
    none("what is named as a test is one", violations);
}

#[test]
fn variables_and_targets_that_the_documents_name_exist() {
    let code = words_of_the_code();
    let mut violations = Vec::new();
    for file in files(&["md"]) {
        for (number, line) in file.lines() {
            let place = format!("{}:{number}", file.path);
            for variable in words(line).filter(|word| word.starts_with("RINGHOLD_")) {
                if !code.contains(variable) {
                    violations.push(format!("{place}: {variable}"));
                }
            }
            let words: Vec<&str> = line.split([' ', '`']).collect();
            for pair in words.windows(2) {
                let name = pair[1].trim_end_matches(['.', ',', ';', ')']);
                let places = match pair[0] {
                    "--test" => ["", "buffers/", "runtime/", "runtime/sim/", "benches/"]
                        .map(|package| format!("{package}tests/{name}.rs"))
                        .to_vec(),
                    "--example" => {
                        vec![format!("examples/{name}.rs"), format!("examples/{name}/main.rs")]
                    }
                    _ => continue,
                };
                if !places.iter().any(|path| root().join(path).exists()) {
                    violations.push(format!("{place}: {} {name}", pair[0]));
                }
            }
        }
    }
    none("a variable, a test file and an example that a document names exist", violations);
}

#[test]
fn names_that_the_readme_and_the_changelog_quote_are_in_the_code() {
    let code = words_of_the_code();
    let mut violations = Vec::new();
    for document in ["README.md", "CHANGELOG.md", "docs/CANCELLATION.md"] {
        for name in prose(&read(document)).lines().flat_map(quoted) {
            let is_name = !name.contains([' ', '/', '-', '.', '=', '…'])
                && name.chars().all(|it| it.is_alphanumeric() || "_:#[]!&".contains(it));
            for word in words(name).filter(|word| is_name && !word.is_empty()) {
                if !code.contains(word) {
                    violations.push(format!("{document}: {name}"));
                }
            }
        }
    }
    none("a name in a document is one in the code", violations);
}

#[test]
fn versions_are_those_of_the_manifest_and_of_the_kernel_floor() {
    let manifest = read("Cargo.toml");
    let of = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        line.and_then(|rest| rest.split('"').next()).expect("the manifest has it").to_owned()
    };
    let readme = read("README.md");
    let floor = runtime::runtime::KERNEL_FLOOR;
    for said in [
        format!("on any Linux {floor} or later with Rust {} or later", of("rust-version")),
        format!("- Linux {floor} or later"),
        format!("- Rust {} or later", of("rust-version")),
        format!("{}, not released", of("version")),
    ] {
        assert!(readme.contains(&said), "README.md does not say {said:?}");
    }
    let changelog = read("CHANGELOG.md");
    assert!(changelog.contains(&format!("## [{}]", of("version"))), "{}", of("version"));
}

/// Grades of `docs/CANCELLATION.md`, as they begin a section of the code's documentation.
const GRADES: [&str; 4] = ["safe", "loses progress", "outcome unknown", "not safe"];

/// The rows of the tables: the words that name functions, and the grade.
fn graded_rows() -> Vec<(BTreeSet<String>, String)> {
    let mut rows = Vec::new();
    for line in read("docs/CANCELLATION.md").lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
        if let [functions, grade, _] = cells[..] {
            let names = quoted(functions).flat_map(words).map(String::from).collect();
            rows.push((names, grade.to_owned()));
        }
    }
    rows
}

/// The name of the public function that a line declares.
fn public_function(line: &str) -> Option<(&str, bool)> {
    let line = line.trim_start().strip_prefix("pub ")?;
    let (line, is_async) = match line.strip_prefix("async ") {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    Some((words(line.strip_prefix("fn ")?).next()?, is_async))
}

/// What the section `# Cancel safety` says in the documentation that ends above line `index`.
fn cancel_safety(lines: &[&str], index: usize) -> Option<String> {
    let is_above =
        |line: &&&str| line.trim_start().starts_with("///") || line.trim_start().starts_with("#[");
    let above = lines[..index].iter().rev().take_while(is_above).count();
    let text = lines[index - above..index].iter().map(|line| line.trim_start_matches([' ', '/']));
    let mut section = text.skip_while(|line| *line != "# Cancel safety");
    section.next()?;
    section.find(|line| !line.is_empty()).map(String::from)
}

#[test]
fn every_async_function_says_what_a_drop_means_and_the_table_agrees() {
    let rows = graded_rows();
    let mut violations = Vec::new();
    let mut count = 0;
    for file in files(&["rs"]) {
        let is_public = file.is_below(&["fs/", "net/", "process/", "runtime/", "buffers/"])
            || ["transfer.rs", "select.rs"].contains(&&*file.path);
        let is_beside = file.is_below(&["runtime/sim/", "runtime/macros/", "runtime/models/"]);
        if !is_public || is_beside || file.is_test() {
            continue;
        }
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some((name, is_async)) = public_function(line) else { continue };
            let place = format!("{}:{}: {name}", file.path, index + 1);
            let Some(said) = cancel_safety(&lines, index) else {
                if is_async {
                    violations.push(format!("{place} has no section `# Cancel safety`"));
                }
                continue;
            };
            count += 1;
            let graded: Vec<&str> = rows
                .iter()
                .filter(|(names, _)| names.contains(name))
                .map(|(_, grade)| grade.as_str())
                .collect();
            let said = said.to_lowercase();
            let is_said = |grade: &&str| {
                said.strip_prefix(grade).is_some_and(|rest| rest.starts_with([':', ',', '.']))
                    // That of the future it is given.
                    || (!GRADES.contains(grade) && said.starts_with("that of"))
            };
            if !graded.iter().any(is_said) {
                violations.push(format!("{place} says {said:?}, and the table {graded:?}"));
            }
        }
    }
    assert!(count > 100, "only {count} functions were found, so they are not found");
    none("what a drop means is said in the code and in docs/CANCELLATION.md alike", violations);
}

#[test]
fn counts_in_words_are_what_is_there() {
    let promises = read("docs/PROMISES.md");
    for (words, path) in
        [("seventeen", "tests/conservation.rs"), ("fifteen", "tests/conservation_sockets.rs")]
    {
        let expected = ["fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"];
        let count = read(path).matches("_leave_nothing_behind").count();
        assert_eq!(expected.get(count - 15), Some(&words), "tests in {path}");
        let said = [format!("{words} in `{path}`"), format!("{words} in\n`{path}`")];
        assert!(said.iter().any(|said| promises.contains(said)), "{words} in {path}");
    }
}

#[test]
fn the_index_of_decisions_lists_each_by_its_title() {
    let index = fs::read_to_string("docs/decisions/README.md").unwrap();
    let mut violations = Vec::new();
    for entry in fs::read_dir("docs/decisions").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        let record = fs::read_to_string(format!("docs/decisions/{name}")).unwrap();
        let title = record.lines().next().unwrap_or_default();
        let (number, title) = title.trim_start_matches("# ").split_once(": ").unwrap_or_default();
        if !index.contains(&format!("| [{number}]({name}) | {title} |")) {
            violations.push(format!("docs/decisions/{name}: {number}: {title}"));
        }
    }
    none("docs/decisions/README.md lists each decision by its number and title", violations);
}
