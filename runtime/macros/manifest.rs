//! Under which name a package's manifest has a dependency.
//!
//! A TOML library would be a third of what a program has to build that does nothing but print. What
//! is read here is less than TOML: the strings and booleans of a manifest, by their paths. What it
//! doesn't know it passes over.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The name that the package which is being compiled has given to its dependency on `package`;
/// `None` if it has none, or is that package itself.
pub(crate) fn name_of_dependency(package: &str) -> Option<String> {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let manifest = Manifest::read(&folder.join("Cargo.toml"))?;
    manifest.name_of(package, || Manifest::of_workspace(&folder, &manifest))
}

/// A manifest's strings and booleans, each under its path of keys.
struct Manifest(Vec<(Vec<String>, String)>);

impl Manifest {
    fn read(path: &Path) -> Option<Manifest> {
        Some(Manifest::of(&fs::read_to_string(path).ok()?))
    }

    fn of(text: &str) -> Manifest {
        let mut reader = Reader { rest: text, found: Vec::new() };
        reader.read();
        Manifest(reader.found)
    }

    /// The root of the workspace that the package in `folder` is a member of.
    fn of_workspace(folder: &Path, member: &Manifest) -> Option<Manifest> {
        if let Some(root) = member.value(&["package", "workspace"]) {
            return Manifest::read(&folder.join(root).join("Cargo.toml"));
        }
        folder.ancestors().find_map(|folder| {
            let manifest = Manifest::read(&folder.join("Cargo.toml"))?;
            let is_root = manifest.0.iter().any(|(path, _)| path[0] == "workspace");
            is_root.then_some(manifest)
        })
    }

    fn value(&self, path: &[&str]) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == path).map(|(_, value)| &**value)
    }

    fn name_of(
        &self,
        package: &str,
        workspace: impl FnOnce() -> Option<Manifest>,
    ) -> Option<String> {
        if self.value(&["package", "name"]) == Some(package) {
            return None;
        }
        let (mut inherited, mut is_other) = (Vec::new(), false);
        let mut own = None;
        for (path, value) in &self.0 {
            let Some((name, attributes)) = dependency(path) else { continue };
            match attributes {
                [attribute] if attribute == "package" && value == package => {
                    return Some(name.replace('-', "_"));
                }
                // Another package by the name of ours.
                [attribute] if attribute == "package" && name == package => is_other = true,
                [attribute] if attribute == "workspace" && value == "true" => inherited.push(name),
                _ => {}
            }
            if name == package {
                own = Some(name.replace('-', "_"));
            }
        }
        if !inherited.is_empty()
            && let Some(root) = workspace()
            && let Some(name) = inherited.iter().find(|name| {
                root.value(&["workspace", "dependencies", name, "package"]) == Some(package)
            })
        {
            return Some(name.replace('-', "_"));
        }
        own.filter(|_| !is_other)
    }
}

/// The name of a dependency, and what of it the rest of the path says.
fn dependency(path: &[String]) -> Option<(&String, &[String])> {
    let path = match path {
        [target, _, rest @ ..] if target == "target" => rest,
        path => path,
    };
    let (table, [name, attributes @ ..]) = path.split_first()? else { return None };
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .contains(&&**table)
        .then_some((name, attributes))
}

struct Reader<'a> {
    rest: &'a str,
    found: Vec<(Vec<String>, String)>,
}

impl Reader<'_> {
    fn read(&mut self) {
        let mut table = Vec::new();
        loop {
            self.skip_blank();
            if self.rest.is_empty() {
                return;
            }
            if self.take("[") {
                let is_list = self.take("[");
                table = self.keys();
                let _ = self.take("]") && is_list && self.take("]");
            } else {
                self.pair(&table);
            }
        }
    }

    /// Passes over white space, line ends and comments.
    fn skip_blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let taken = self.rest.strip_prefix(token);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    /// `a.b."c"`
    fn keys(&mut self) -> Vec<String> {
        let mut keys = Vec::new();
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            let is_bare = |it: char| it.is_alphanumeric() || it == '-' || it == '_';
            let key = self.string().unwrap_or_else(|| {
                let end = self.rest.find(|it| !is_bare(it)).unwrap_or(self.rest.len());
                let (key, rest) = self.rest.split_at(end);
                self.rest = rest;
                key.to_owned()
            });
            keys.push(key);
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            if !self.take(".") {
                return keys;
            }
        }
    }

    /// `keys = value`, or something that isn't known, which is passed over.
    fn pair(&mut self, table: &[String]) {
        let before = self.rest.len();
        let keys = self.keys();
        if self.take("=") {
            self.value(&[table, &keys].concat());
        } else if self.rest.len() == before {
            self.rest = self.rest.get(1..).unwrap_or("");
        }
    }

    fn value(&mut self, path: &[String]) {
        self.skip_blank();
        if let Some(text) = self.string() {
            self.found.push((path.to_vec(), text));
        } else if self.take("{") {
            self.until("}", |reader| reader.pair(path));
        } else if self.take("[") {
            self.until("]", |reader| reader.value(&[]));
        } else {
            let end = self.rest.find([',', '}', ']', '\n', '#', ' ']).unwrap_or(self.rest.len());
            self.found.push((path.to_vec(), self.rest[..end].trim().to_owned()));
            self.rest = &self.rest[end..];
        }
        self.found.retain(|(path, _)| !path.is_empty());
    }

    fn until(&mut self, end: &str, mut item: impl FnMut(&mut Self)) {
        loop {
            self.skip_blank();
            if self.take(end) || self.rest.is_empty() {
                return;
            }
            let before = self.rest.len();
            if !self.take(",") {
                item(self);
            }
            if self.rest.len() == before {
                self.rest = self.rest.get(1..).unwrap_or("");
            }
        }
    }

    /// A string of any of the four kinds, without what its escapes mean: no name has one.
    fn string(&mut self) -> Option<String> {
        let quote =
            ["\"\"\"", "'''", "\"", "'"].into_iter().find(|it| self.rest.starts_with(it))?;
        let begin = &self.rest[quote.len()..];
        let mut end = 0;
        while !begin[end..].starts_with(quote) {
            let mut characters = begin[end..].chars();
            let character = characters.next()?;
            end += character.len_utf8();
            if character == '\\' && quote.starts_with('"') {
                end += characters.next()?.len_utf8();
            }
        }
        self.rest = &begin[end + quote.len()..];
        Some(begin[..end].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(manifest: &str) -> Option<String> {
        Manifest::of(manifest).name_of("ringhold", || None)
    }

    #[test]
    fn a_dependency_is_found_in_every_form_of_a_manifest() {
        for (manifest, expected) in [
            ("[dependencies]\nringhold = \"0.1\"\n", "ringhold"),
            ("[dependencies]\ntokio = { package = \"ringhold\", version = \"1\" }", "tokio"),
            ("[dependencies.tokio]\nversion = \"1\"\npackage = 'ringhold' # renamed\n", "tokio"),
            ("[dev-dependencies]\nmy-io.package = \"ringhold\"\nmy-io.path = \"..\"\n", "my_io"),
            (
                "[target.'cfg(unix)'.dependencies]\ntokio={features=[\"a\",\"b\"],\
                 package=\"ringhold\"}",
                "tokio",
            ),
            ("dependencies = { tokio = { package = \"ringhold\" } }", "tokio"),
            (
                "[build-dependencies]\n\"tokio\" = {\n  # more lines\n  \
                 package = \"ringhold\",\n}\n",
                "tokio",
            ),
            ("[dependencies]\nringhold.workspace = true\n", "ringhold"),
        ] {
            assert_eq!(name(manifest).as_deref(), Some(expected), "{manifest}");
        }
    }

    #[test]
    fn what_only_looks_like_a_dependency_is_none() {
        for manifest in [
            "",
            "[package]\nname = \"ringhold\"\n[dependencies]\nringhold = \"0.1\"\n",
            "[dependencies]\n# tokio = { package = \"ringhold\" }\n",
            "[dependencies]\nother = \"tokio = { package = 'ringhold' }\"\n",
            "[package.metadata]\ntokio = { package = \"ringhold\" }\n",
            "[package]\ndescription = \"\"\"\n[dependencies]\nringhold = 1\n\"\"\"\n",
            "[features]\nringhold = [\"dep:other\"]\n",
            "[dependencies]\nringhold = { version = \"1\", package = \"other\" }\n",
            "[dependencies]\ntokio = { version = \"1\" ",
            "]]}{ = = \" \n [dependencies",
        ] {
            assert_eq!(name(manifest), None, "{manifest}");
        }
    }

    #[test]
    fn a_name_that_the_workspace_gives_is_found_there() {
        let member = Manifest::of("[dependencies]\nserde = \"1\"\ntokio.workspace = true\n");
        let root = "[workspace]\nmembers = [\"a\"]\n[workspace.dependencies]\n\
                    tokio = { package = \"ringhold\", version = \"0.1\" }\n";
        let name = member.name_of("ringhold", || Some(Manifest::of(root)));
        assert_eq!(name.as_deref(), Some("tokio"));
        let other = "[workspace.dependencies]\ntokio = \"1\"\n";
        assert_eq!(member.name_of("ringhold", || Some(Manifest::of(other))), None);
    }
}
