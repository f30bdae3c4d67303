//! `select!`: how its branches are read, and what they become.

mod expansion;
mod shape;

use proc_macro2::{Delimiter, Spacing, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Error, Expr, Result, Token};

/// How many branches there may be: as many as a mask of 64 bits can disable.
const BRANCHES_MAX: usize = 64;

mod keyword {
    //! The one word of `select!` that is no keyword elsewhere.

    syn::custom_keyword!(biased);
}

/// One branch: `pattern = future (, if condition)? => handler`.
struct Branch {
    pattern: TokenStream,
    /// What it matches, of an output that is only looked at.
    shape: TokenStream,
    future: Expr,
    condition: Option<Expr>,
    handler: TokenStream,
}

/// A whole `select!`, after the path of the runtime that the face's macro puts in front of it.
struct Select {
    path: TokenStream,
    biased: bool,
    branches: Vec<Branch>,
    otherwise: Option<Expr>,
}

impl Parse for Select {
    fn parse(input: ParseStream<'_>) -> Result<Select> {
        let path = parse_path(input)?;
        let biased = input.peek(keyword::biased) && input.peek2(Token![;]);
        if biased {
            input.parse::<keyword::biased>()?;
            input.parse::<Token![;]>()?;
        }
        let mut select = Select { path, biased, branches: Vec::new(), otherwise: None };
        while !input.is_empty() {
            if input.peek(Token![else]) {
                select.otherwise = Some(parse_otherwise(input)?);
                break;
            }
            if select.branches.len() == BRANCHES_MAX {
                let message = format!("`select!` has at most {BRANCHES_MAX} branches");
                return Err(input.error(message));
            }
            select.branches.push(input.parse()?);
        }
        if select.branches.is_empty() && select.otherwise.is_none() {
            return Err(Error::new(Span::call_site(), "`select!` needs at least one branch"));
        }
        Ok(select)
    }
}

impl Parse for Branch {
    fn parse(input: ParseStream<'_>) -> Result<Branch> {
        let pattern = parse_pattern(input)?;
        let shape = shape::shape(pattern.clone())?;
        let future = input.parse()?;
        let condition = if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
            input.parse::<Token![if]>()?;
            Some(input.parse()?)
        } else {
            None
        };
        input.parse::<Token![=>]>()?;
        Ok(Branch { pattern, shape, future, condition, handler: parse_handler(input)? })
    }
}

/// The path of the runtime, up to the semicolon.
fn parse_path(input: ParseStream<'_>) -> Result<TokenStream> {
    let mut path = TokenStream::new();
    while !input.peek(Token![;]) {
        path.extend([input.parse::<TokenTree>()?]);
    }
    input.parse::<Token![;]>()?;
    Ok(path)
}

/// The tokens up to the `=`, which stands nowhere in a pattern but in `..=`.
fn parse_pattern(input: ParseStream<'_>) -> Result<TokenStream> {
    let mut pattern = TokenStream::new();
    let mut in_range = false;
    loop {
        let has_ended = input.is_empty() || input.peek(Token![=>]);
        if has_ended || (pattern.is_empty() && input.peek(Token![=])) {
            return Err(input.error("expected `<pattern> = <future> => <handler>`"));
        }
        if input.peek(Token![=]) && !in_range {
            input.parse::<Token![=]>()?;
            return Ok(pattern);
        }
        let token: TokenTree = input.parse()?;
        in_range = matches!(
            &token,
            TokenTree::Punct(dot) if dot.as_char() == '.' && dot.spacing() == Spacing::Joint
        );
        pattern.extend([token]);
    }
}

/// A handler: a block, which a comma may follow, or an expression, which one has to, unless it is
/// the last.
fn parse_handler(input: ParseStream<'_>) -> Result<TokenStream> {
    if let Some(block) = parse_block(input) {
        input.parse::<Option<Token![,]>>()?;
        return Ok(block);
    }
    let handler: Expr = input.parse()?;
    if !input.is_empty() {
        if !input.peek(Token![,]) {
            return Err(input.error("expected `,`: only a handler in braces needs none"));
        }
        input.parse::<Token![,]>()?;
    }
    Ok(handler.into_token_stream())
}

/// A block, unread, also one that came through a `macro_rules!` macro as a fragment.
fn parse_block(input: ParseStream<'_>) -> Option<TokenStream> {
    let (TokenTree::Group(group), _) = input.cursor().token_tree()? else { return None };
    let is_block = match group.delimiter() {
        Delimiter::Brace => true,
        Delimiter::None => is_one_block(group.stream()),
        _ => false,
    };
    if !is_block {
        return None;
    }
    input.parse::<TokenTree>().ok().map(TokenTree::into_token_stream)
}

fn is_one_block(tokens: TokenStream) -> bool {
    let mut tokens = tokens.into_iter();
    let first = tokens.next();
    let is_block =
        matches!(&first, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace);
    is_block && tokens.next().is_none()
}

/// `else => expression`, with which a `select!` ends.
fn parse_otherwise(input: ParseStream<'_>) -> Result<Expr> {
    input.parse::<Token![else]>()?;
    input.parse::<Token![=>]>()?;
    let otherwise = input.parse()?;
    input.parse::<Option<Token![,]>>()?;
    if input.is_empty() { Ok(otherwise) } else { Err(input.error("`else` is the last branch")) }
}

/// Expands `select!`, in front of which stand the path of the runtime and a semicolon.
pub(crate) fn expand(tokens: TokenStream) -> TokenStream {
    match Select::parse.parse2(tokens) {
        Ok(select) => select.expand(),
        Err(error) => error.into_compile_error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> TokenStream {
        text.parse().expect("the test's text is tokens")
    }

    /// The tokens of what these branches become.
    fn expanded(branches: &str) -> String {
        expand(tokens(&format!("::runtime; {branches}"))).to_string().replace(' ', "")
    }

    /// Says where the message points: from which column on, in the branches as written.
    #[track_caller]
    fn assert_refused(branches: &str, message: &str, at: &str) {
        let error = Select::parse.parse2(tokens(&format!("::runtime;{branches}")));
        let Err(error) = error else { panic!("it was accepted: {branches}") };
        assert_eq!(error.to_string(), message);
        let column = error.span().start().column - "::runtime;".len();
        assert_eq!(&branches[column..][..at.len()], at, "{branches}");
    }

    #[test]
    fn the_runtime_is_named_by_the_path_in_front() {
        let text = expand(tokens("$crate; () = a() => {} () = b() => {}")).to_string();
        for name in ["Both", "poll_select", "random_below"] {
            let path = format!("$ crate :: __private :: {name}");
            assert!(text.replace("$crate", "$ crate").contains(&path), "{name}: {text}");
        }
    }

    #[test]
    fn one_branch_and_biased_ones_draw_no_number() {
        assert!(!expanded("() = a() => {}").contains("random_below"));
        assert!(!expanded("biased; () = a() => {} () = b() => {}").contains("random_below"));
        assert!(expanded("() = a() => {} () = b() => {}").contains("random_below(2u32)"));
    }

    #[test]
    fn the_mask_is_no_wider_than_it_has_to_be() {
        for (count, mask) in
            [(1, "u8"), (8, "u8"), (9, "u16"), (17, "u32"), (33, "u64"), (64, "u64")]
        {
            let text = expanded(&"() = a() => {}".repeat(count));
            assert!(
                text.contains(&format!("letmutdisabled:::core::primitive::{mask}=0;")),
                "{count}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let form = "expected `<pattern> = <future> => <handler>`";
        assert_refused("a => {}", form, "=>");
        assert_refused("= a() => {}", form, "=");
        assert_refused("a == b() => {}", "expected an expression", "=");
        assert_refused("a = b(), when c => {}", "expected `if`", "when");
        assert_refused("a = b() {}", "expected `=>`", "{}");
        assert_refused("else => 1, a = b() => {}", "`else` is the last branch", "a = b");
        let comma = "expected `,`: only a handler in braces needs none";
        assert_refused("a = b() => c() d = e() => {}", comma, "d = e");
        let many = "() = a() => {} ".repeat(64) + "() = last() => {}";
        assert_refused(&many, "`select!` has at most 64 branches", "() = last");
    }

    #[test]
    fn a_select_without_a_branch_is_refused() {
        for branches in ["", "biased;"] {
            let text = expanded(branches);
            assert!(text.starts_with("::core::compile_error!"), "{text}");
            assert!(text.contains("`select!`needsatleastonebranch"), "{text}");
        }
    }
}
