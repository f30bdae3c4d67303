//! The shape of a pattern: what it matches, of a value that is only looked at.
//!
//! Whether an output matches is found out through a reference to it, since it is moved to its
//! handler only afterwards. There `ref`, `mut` and `&` have no place: what is bound is bound by
//! reference.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::Parser;
use syn::{Ident, Lit, Pat, Result};

/// The pattern that matches a reference to a value where `pattern` matches the value.
///
/// # Errors
///
/// What makes it no pattern.
pub(super) fn shape(pattern: TokenStream) -> Result<TokenStream> {
    let mut pattern = Pat::parse_multi_with_leading_vert.parse2(pattern)?;
    simplify(&mut pattern);
    Ok(pattern.into_token_stream())
}

fn simplify(pattern: &mut Pat) {
    if let Pat::Reference(reference) = pattern {
        reference.mutability = None;
        if !is_compared_whole(&reference.pat) {
            *pattern = *reference.pat.clone();
            simplify(pattern);
            return;
        }
    }
    match pattern {
        Pat::Ident(ident) => {
            ident.by_ref = None;
            ident.mutability = None;
            if let Some((_, pattern)) = &mut ident.subpat {
                simplify(pattern);
            }
        }
        Pat::Or(or) => or.cases.iter_mut().for_each(simplify),
        Pat::Paren(paren) => simplify(&mut paren.pat),
        Pat::Slice(slice) => slice.elems.iter_mut().for_each(simplify),
        Pat::Struct(fields) => {
            fields.fields.iter_mut().for_each(|field| simplify(&mut field.pat));
        }
        Pat::Tuple(tuple) => tuple.elems.iter_mut().for_each(simplify),
        Pat::TupleStruct(tuple) => tuple.elems.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// Whether the compiler takes no reference away from the value that it compares this pattern with:
/// that goes for constants and for strings, so the `&` in front of them has to stay. A constant is
/// known by its capitals only.
fn is_compared_whole(pattern: &Pat) -> bool {
    let is_constant = |name: Option<&Ident>| {
        let name = name.map(Ident::to_string).unwrap_or_default();
        name.contains(char::is_uppercase) && !name.contains(char::is_lowercase)
    };
    match pattern {
        Pat::Ident(ident) => is_constant(Some(&ident.ident)),
        Pat::Path(path) => is_constant(path.path.segments.last().map(|segment| &segment.ident)),
        Pat::Lit(literal) => {
            matches!(literal.lit, Lit::Str(_) | Lit::ByteStr(_) | Lit::CStr(_))
        }
        Pat::Paren(paren) => is_compared_whole(&paren.pat),
        Pat::Or(or) => or.cases.iter().any(is_compared_whole),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_shape(pattern: &str, expected: &str) {
        let tokens: TokenStream = pattern.parse().expect("it is tokens");
        let expected: TokenStream = expected.parse().expect("it is tokens");
        let shape = shape(tokens).expect("it is a pattern");
        assert_eq!(shape.to_string(), expected.to_string());
    }

    #[test]
    fn how_a_value_is_bound_is_left_out() {
        assert_shape("mut a", "a");
        assert_shape("Some(ref mut a)", "Some(a)");
        assert_shape("(mut a, [ref b, ..])", "(a, [b, ..])");
        assert_shape("S { mut a, b: ref c, .. }", "S { a, b: c, .. }");
        assert_shape("| Ok(mut a) | Err(mut a)", "| Ok(a) | Err(a)");
        assert_shape("whole @ Some(mut a)", "whole @ Some(a)");
        assert_shape("(mut a)", "(a)");
    }

    #[test]
    fn references_are_looked_through() {
        assert_shape("Some(&a)", "Some(a)");
        assert_shape("Some(&mut a)", "Some(a)");
        assert_shape("&(&a, &5)", "(a, 5)");
        assert_shape("&Kind::Open", "Kind::Open");
    }

    #[test]
    fn references_to_constants_and_strings_stay() {
        assert_shape("Some(&LIMIT)", "Some(&LIMIT)");
        assert_shape("Some(&mut limits::MOST)", "Some(&limits::MOST)");
        assert_shape(r#"&"text""#, r#"&"text""#);
    }

    #[test]
    fn what_matches_stays() {
        for pattern in ["_", "..", "1..=5", "None", "Some(3)", "path::C", "m!(x)", "a @ 1.."] {
            assert_shape(pattern, pattern);
        }
    }
}
