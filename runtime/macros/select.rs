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
        let future = input.parse()?;
        let condition = if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
            input.parse::<Token![if]>()?;
            Some(input.parse()?)
        } else {
            None
        };
        input.parse::<Token![=>]>()?;
        Ok(Branch { pattern, future, condition, handler: parse_handler(input)? })
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

/// The tokens up to the `=`, which stands nowhere in a pattern but in `..=`. They are not looked
/// into here: the compiler does that, and points at what is wrong.
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
