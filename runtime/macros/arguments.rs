//! The arguments of the macros: read, checked, and explained where they are wrong.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, Lit, LitStr, Meta, MetaNameValue, Path, Result, Token};

/// Which of the macros is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Main,
    Test,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Main => "main",
            Kind::Test => "test",
        }
    }
}

/// How the runtime spreads over threads. Tokio's `local` is `CurrentThread` here, since every
/// shard takes futures that are not `Send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavor {
    CurrentThread,
    MultiThread,
}

/// An argument's value, with the place to point at if it contradicts another one.
#[derive(Clone, Copy, Debug)]
struct Given<T> {
    value: T,
    span: Span,
}

/// The arguments as they were written; `None` for those that were not.
#[derive(Default)]
pub(crate) struct Arguments {
    flavor: Option<Given<Flavor>>,
    shards: Option<Given<usize>>,
    worker_threads: Option<Given<usize>>,
    start_paused: Option<Given<bool>>,
    pin: Option<Given<bool>>,
    name: Option<Given<LitStr>>,
    unhandled_panic: Option<Given<()>>,
    path: Option<Given<Path>>,
}

/// Each argument with a value that it may have.
const EXAMPLES: [(&str, &str); 8] = [
    ("shards", "2"),
    ("pin", "true"),
    ("name", "\"server\""),
    ("flavor", "\"multi_thread\""),
    ("worker_threads", "2"),
    ("start_paused", "true"),
    ("unhandled_panic", "\"ignore\""),
    ("crate", "\"path::to::runtime\""),
];

impl Arguments {
    /// Reads and checks what stands in the attribute's parentheses.
    ///
    /// # Errors
    ///
    /// The first mistake, at the place where it was made.
    pub(crate) fn parse(kind: Kind, tokens: TokenStream) -> Result<Arguments> {
        let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)?;
        let mut arguments = Arguments::default();
        for meta in metas {
            match meta {
                Meta::NameValue(pair) => arguments.set(kind, pair)?,
                Meta::Path(path) => return Err(explain_bare(kind, &path)),
                Meta::List(list) => return Err(explain_bare(kind, &list.path)),
            }
        }
        arguments.check(kind)?;
        Ok(arguments)
    }

    fn set(&mut self, kind: Kind, pair: MetaNameValue) -> Result<()> {
        let MetaNameValue { path, value, .. } = pair;
        let value = ungrouped(value);
        match name_of(&path).as_str() {
            "shards" => put(&mut self.shards, &path, &value, count(&path, &value)?),
            "worker_threads" => put(&mut self.worker_threads, &path, &value, count(&path, &value)?),
            "pin" => put(&mut self.pin, &path, &value, boolean(&path, &value)?),
            "start_paused" => put(&mut self.start_paused, &path, &value, boolean(&path, &value)?),
            "name" => put(&mut self.name, &path, &value, string(&path, &value)?),
            "flavor" => put(&mut self.flavor, &path, &value, flavor(&path, &value)?),
            "crate" => put(&mut self.path, &path, &value, crate_path(&path, &value)?),
            "unhandled_panic" => {
                unhandled_panic(&path, &value)?;
                put(&mut self.unhandled_panic, &path, &value, ())
            }
            _ => Err(explain_unknown(kind, &path)),
        }
    }

    /// Refuses what contradicts itself.
    fn check(&self, kind: Kind) -> Result<()> {
        if let (Some(_), Some(worker_threads)) = (self.shards, self.worker_threads) {
            let message = "`worker_threads` is tokio's name for `shards`: give one of the two";
            return Err(Error::new(worker_threads.span, message));
        }
        let flavor = self.flavor(kind);
        if flavor == Flavor::CurrentThread
            && let Some(count) = self.count()
            && count.value > 1
        {
            let message = "the flavors `current_thread` and `local` have one shard; for more, \
                 write `flavor = \"multi_thread\"`";
            return Err(Error::new(count.span, message));
        }
        let one_shard =
            flavor == Flavor::CurrentThread || self.count().is_some_and(|n| n.value == 1);
        match self.start_paused {
            Some(Given { value: true, span }) if !one_shard => Err(Error::new(
                span,
                "`start_paused` needs a single shard, since only one clock can stand still: \
                 add `flavor = \"current_thread\"` or `shards = 1`",
            )),
            _ => Ok(()),
        }
    }

    /// The number of shards, under either of its names.
    fn count(&self) -> Option<Given<usize>> {
        self.shards.or(self.worker_threads)
    }

    /// The flavor as given, or else what the macro and the number of shards say.
    fn flavor(&self, kind: Kind) -> Flavor {
        match (self.flavor, kind) {
            (Some(given), _) => given.value,
            (None, Kind::Main) => Flavor::MultiThread,
            (None, Kind::Test) if self.count().is_some_and(|n| n.value > 1) => Flavor::MultiThread,
            (None, Kind::Test) => Flavor::CurrentThread,
        }
    }

    /// The path that `crate` gives.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(|given| &given.value)
    }

    /// The expression that makes and configures the builder of the runtime at `path`.
    pub(crate) fn builder(&self, kind: Kind, path: &TokenStream) -> TokenStream {
        let mut builder = match self.flavor(kind) {
            Flavor::CurrentThread => quote!(#path::Builder::new_current_thread()),
            Flavor::MultiThread => {
                let shards = self.shards.map(|n| n.value).map(|n| quote!(.shards(#n)));
                let threads = self.worker_threads.map(|n| n.value);
                let threads = threads.map(|n| quote!(.worker_threads(#n)));
                quote!(#path::Builder::new_multi_thread() #shards #threads)
            }
        };
        if let Some(Given { value, .. }) = self.pin {
            builder.extend(quote!(.pin(#value)));
        }
        if let Some(Given { value, .. }) = &self.name {
            builder.extend(quote!(.name(#value)));
        }
        if let Some(Given { value, .. }) = self.start_paused {
            builder.extend(quote!(.start_paused(#value)));
        }
        builder.extend(quote!(.enable_all()));
        builder
    }
}

fn put<T>(slot: &mut Option<Given<T>>, path: &Path, value: &Expr, read: T) -> Result<()> {
    if slot.is_some() {
        return Err(Error::new_spanned(path, format!("`{}` is given twice", name_of(path))));
    }
    *slot = Some(Given { value: read, span: value.span() });
    Ok(())
}

fn name_of(path: &Path) -> String {
    let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    names.join("::")
}

/// A value that came through a `macro_rules!` macro is wrapped in groups that nobody sees.
fn ungrouped(mut value: Expr) -> Expr {
    while let Expr::Group(group) = value {
        value = *group.expr;
    }
    value
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(literal) => Some(&literal.lit),
        _ => None,
    }
}

fn count(path: &Path, value: &Expr) -> Result<usize> {
    let number = match literal(value) {
        Some(Lit::Int(number)) => number.base10_parse::<usize>()?,
        _ => return Err(explain_value(path, value, "a whole number")),
    };
    if number == 0 {
        let message = format!("`{}` must be at least 1", name_of(path));
        return Err(Error::new_spanned(value, message));
    }
    Ok(number)
}

fn boolean(path: &Path, value: &Expr) -> Result<bool> {
    match literal(value) {
        Some(Lit::Bool(boolean)) => Ok(boolean.value),
        _ => Err(explain_value(path, value, "`true` or `false`")),
    }
}

fn string(path: &Path, value: &Expr) -> Result<LitStr> {
    match literal(value) {
        Some(Lit::Str(string)) => Ok(string.clone()),
        _ => Err(explain_value(path, value, "a string")),
    }
}

fn flavor(path: &Path, value: &Expr) -> Result<Flavor> {
    match string(path, value)?.value().as_str() {
        "current_thread" | "local" => Ok(Flavor::CurrentThread),
        "multi_thread" => Ok(Flavor::MultiThread),
        other => Err(Error::new_spanned(
            value,
            format!(
                "there is no flavor `{other}`; the flavors are `current_thread`, `multi_thread` \
                 and `local`"
            ),
        )),
    }
}

/// The value changes nothing, but a misspelt one is a mistake all the same.
fn unhandled_panic(path: &Path, value: &Expr) -> Result<()> {
    match string(path, value)?.value().as_str() {
        "ignore" | "shutdown_runtime" => Ok(()),
        other => Err(Error::new_spanned(
            value,
            format!("`unhandled_panic` is \"ignore\" or \"shutdown_runtime\", not \"{other}\""),
        )),
    }
}

fn crate_path(path: &Path, value: &Expr) -> Result<Path> {
    if let Expr::Path(bare) = value {
        return Ok(bare.path.clone());
    }
    let string = string(path, value)?;
    string.parse_with(Path::parse_mod_style).map_err(|_| {
        let message = format!("`{}` is not a path such as `path::to::runtime`", string.value());
        Error::new_spanned(value, message)
    })
}

fn explain_value(path: &Path, value: &Expr, wanted: &str) -> Error {
    let name = name_of(path);
    let example = example_of(&name).unwrap_or("..");
    let message = format!("`{name}` takes {wanted}, written out: `{name} = {example}`");
    Error::new_spanned(value, message)
}

fn explain_bare(kind: Kind, path: &Path) -> Error {
    let name = name_of(path);
    if let Some(example) = example_of(&name) {
        let message = format!("`{name}` needs a value: `{name} = {example}`");
        return Error::new_spanned(path, message);
    }
    match name.as_str() {
        "current_thread" | "multi_thread" | "local" => {
            let message = format!("the flavor is given as `flavor = \"{name}\"`");
            Error::new_spanned(path, message)
        }
        _ => explain_unknown(kind, path),
    }
}

fn explain_unknown(kind: Kind, path: &Path) -> Error {
    let known: Vec<_> = EXAMPLES.iter().map(|(name, _)| format!("`{name}`")).collect();
    let message = format!(
        "`#[{}]` has no argument `{}`; it has {}",
        kind.name(),
        name_of(path),
        known.join(", ")
    );
    Error::new_spanned(path, message)
}

fn example_of(name: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(known, _)| *known == name).map(|(_, example)| *example)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The builder that the arguments make, in one line.
    fn built(kind: Kind, arguments: &str) -> String {
        let tokens = arguments.parse().expect("the test's arguments are tokens");
        match Arguments::parse(kind, tokens) {
            Ok(read) => read.builder(kind, &quote!(::runtime)).to_string().replace(' ', ""),
            Err(error) => panic!("{arguments}: {error}"),
        }
    }

    /// What is said about wrong arguments, and the text at which it points.
    fn refused(kind: Kind, arguments: &str) -> (String, String) {
        let tokens = arguments.parse().expect("the test's arguments are tokens");
        match Arguments::parse(kind, tokens) {
            Ok(_) => panic!("`{arguments}` was accepted"),
            Err(error) => (error.span().source_text().unwrap_or_default(), error.to_string()),
        }
    }

    #[test]
    fn main_has_the_default_number_of_shards_and_a_test_has_one() {
        let main = "::runtime::Builder::new_multi_thread().enable_all()";
        let test = "::runtime::Builder::new_current_thread().enable_all()";
        assert_eq!(built(Kind::Main, ""), main);
        assert_eq!(built(Kind::Test, ""), test);
        assert_eq!(built(Kind::Main, r#"flavor = "current_thread""#), test);
        assert_eq!(built(Kind::Main, r#"flavor = "local""#), test);
        assert_eq!(built(Kind::Test, r#"flavor = "multi_thread","#), main);
    }

    #[test]
    fn a_number_of_shards_makes_a_test_run_on_many_threads() {
        let two = "::runtime::Builder::new_multi_thread().shards(2usize).enable_all()";
        assert_eq!(built(Kind::Main, "shards = 2"), two);
        assert_eq!(built(Kind::Test, "shards = 2"), two);
        assert_eq!(
            built(Kind::Test, "shards = 1"),
            "::runtime::Builder::new_current_thread().enable_all()"
        );
        assert_eq!(
            built(Kind::Test, r#"flavor = "multi_thread", worker_threads = 3"#),
            "::runtime::Builder::new_multi_thread().worker_threads(3usize).enable_all()"
        );
    }

    #[test]
    fn every_argument_reaches_the_builder() {
        assert_eq!(
            built(Kind::Main, r#"shards = 1, pin = true, name = "web", start_paused = true"#),
            "::runtime::Builder::new_multi_thread().shards(1usize).pin(true).name(\"web\")\
             .start_paused(true).enable_all()"
        );
        assert_eq!(
            built(Kind::Test, r#"unhandled_panic = "shutdown_runtime", start_paused = false"#),
            "::runtime::Builder::new_current_thread().start_paused(false).enable_all()"
        );
    }

    #[test]
    fn an_unknown_argument_is_answered_with_the_known_ones() {
        let (place, message) = refused(Kind::Main, "shards = 2, threads = 4");
        assert_eq!(place, "threads");
        assert_eq!(
            message,
            "`#[main]` has no argument `threads`; it has `shards`, `pin`, `name`, `flavor`, \
             `worker_threads`, `start_paused`, `unhandled_panic`, `crate`"
        );
        assert_eq!(refused(Kind::Test, "a::b(c)").0, "a::b");
    }

    #[test]
    fn an_argument_without_a_value_is_answered_with_an_example() {
        let expected = ("pin".to_string(), "`pin` needs a value: `pin = true`".to_string());
        assert_eq!(refused(Kind::Main, "pin"), expected);
        assert_eq!(
            refused(Kind::Main, "multi_thread").1,
            "the flavor is given as `flavor = \"multi_thread\"`"
        );
    }

    #[test]
    fn a_wrong_value_is_pointed_at() {
        for (arguments, place, message) in [
            ("shards = 0", "0", "`shards` must be at least 1"),
            ("shards = CORES", "CORES", "`shards` takes a whole number, written out: `shards = 2`"),
            ("pin = 1", "1", "`pin` takes `true` or `false`, written out: `pin = true`"),
            ("name = 7", "7", "`name` takes a string, written out: `name = \"server\"`"),
            (
                r#"flavor = "threaded""#,
                r#""threaded""#,
                "there is no flavor `threaded`; the flavors are `current_thread`, `multi_thread` \
                 and `local`",
            ),
            (
                r#"unhandled_panic = "abort""#,
                r#""abort""#,
                "`unhandled_panic` is \"ignore\" or \"shutdown_runtime\", not \"abort\"",
            ),
            (r#"crate = "a b""#, r#""a b""#, "`a b` is not a path such as `path::to::runtime`"),
            ("pin = true, pin = true", "pin", "`pin` is given twice"),
        ] {
            let expected = (place.to_string(), message.to_string());
            assert_eq!(refused(Kind::Main, arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn contradictions_are_refused_at_the_value_to_change() {
        let two_names = "`worker_threads` is tokio's name for `shards`: give one of the two";
        let one_shard = "the flavors `current_thread` and `local` have one shard; for more, write \
                         `flavor = \"multi_thread\"`";
        let one_clock = "`start_paused` needs a single shard, since only one clock can stand \
                         still: add `flavor = \"current_thread\"` or `shards = 1`";
        for (kind, arguments, place, message) in [
            (Kind::Main, "shards = 2, worker_threads = 3", "3", two_names),
            (Kind::Main, "worker_threads = 3, shards = 2", "3", two_names),
            (Kind::Test, r#"flavor = "current_thread", shards = 2"#, "2", one_shard),
            (Kind::Main, r#"worker_threads = 4, flavor = "local""#, "4", one_shard),
            (Kind::Main, "start_paused = true", "true", one_clock),
            (Kind::Test, "start_paused = true, shards = 2", "true", one_clock),
            (Kind::Test, r#"start_paused = true, flavor = "multi_thread""#, "true", one_clock),
        ] {
            let expected = (place.to_string(), message.to_string());
            assert_eq!(refused(kind, arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn a_value_that_came_through_a_macro_is_read() {
        let group = proc_macro2::Group::new(proc_macro2::Delimiter::None, quote!(2));
        let read = Arguments::parse(Kind::Main, quote!(shards = #group)).expect("2 is a number");
        assert_eq!(read.count().map(|n| n.value), Some(2));
    }
}
