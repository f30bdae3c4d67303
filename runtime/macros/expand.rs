//! The expansion: from an async function to one that runs its body on a runtime.

use crate::arguments::{Arguments, Kind};
use crate::manifest::name_of_dependency;
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{AttrStyle, Attribute, Error, Result, ReturnType, Signature, Type, Visibility};

/// A function whose body is not parsed: the compiler will do that, and point at what is wrong.
struct Function {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    body: TokenStream,
    braces: Span,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Function> {
        let mut attributes = Attribute::parse_outer(input)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        let content;
        let braces = syn::braced!(content in input).span.join();
        // An inner attribute may stand in the body of a function, but not of an async block.
        for mut attribute in Attribute::parse_inner(&content)? {
            attribute.style = AttrStyle::Outer;
            attributes.push(attribute);
        }
        Ok(Function { attributes, visibility, signature, body: content.parse()?, braces })
    }
}

/// Where the runtime is found: the key of the dependency on `ringhold`, else nothing. It is also
/// nothing within `ringhold` itself, whose tests and examples see it under its own name.
pub(crate) fn find_runtime() -> Option<String> {
    name_of_dependency("ringhold")
}

/// The path under which the expansion finds the runtime. The package `ringhold` has a library
/// with the name `runtime`; a renamed dependency has the name that it was given.
fn runtime_path(arguments: &Arguments, find: fn() -> Option<String>) -> TokenStream {
    if let Some(path) = arguments.path() {
        return path.to_token_stream();
    }
    match find() {
        Some(key) if key != "ringhold" => {
            let name = Ident::new(&key, Span::call_site());
            quote!(::#name)
        }
        _ => quote!(::runtime),
    }
}

/// Expands a macro. What is wrong becomes a `compile_error!`, beside a function that keeps the
/// compiler from complaining about its absence, too.
pub(crate) fn expand(
    kind: Kind,
    arguments: TokenStream,
    item: TokenStream,
    find: fn() -> Option<String>,
) -> TokenStream {
    let function = match syn::parse2::<Function>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let mut tokens = error.into_compile_error();
            tokens.extend(item);
            return tokens;
        }
    };
    if let Err(error) = check(kind, &function) {
        let error = error.into_compile_error();
        let stand_in = (function.signature.ident == "main").then(|| {
            quote!(
                fn main() {}
            )
        });
        return quote!(#error #stand_in);
    }
    match Arguments::parse(kind, arguments) {
        Ok(arguments) => function.expand(kind, &arguments, &runtime_path(&arguments, find)),
        Err(error) => {
            let error = error.into_compile_error();
            let arguments = Arguments::default();
            let function = function.expand(kind, &arguments, &runtime_path(&arguments, find));
            quote!(#error #function)
        }
    }
}

/// Refuses a function that the macro is of no use to.
fn check(kind: Kind, function: &Function) -> Result<()> {
    let Signature { asyncness, fn_token, ident, inputs, .. } = &function.signature;
    if asyncness.is_none() {
        let message = format!("`#[{}]` needs an async function: `async fn {ident}`", kind.name());
        return Err(Error::new_spanned(fn_token, message));
    }
    if kind == Kind::Main && ident == "main" && !inputs.is_empty() {
        let message = "`main` takes no arguments; the command line is in `std::env::args`";
        return Err(Error::new_spanned(inputs, message));
    }
    if kind == Kind::Test && !inputs.is_empty() {
        let message = "a test takes no arguments, since nobody could give them to it";
        return Err(Error::new_spanned(inputs, message));
    }
    match function.attributes.iter().find(|attribute| is_test(attribute)) {
        Some(attribute) if kind == Kind::Test => {
            let message = "this attribute makes the function a test a second time: remove it";
            Err(Error::new_spanned(attribute, message))
        }
        _ => Ok(()),
    }
}

/// Whether an attribute is the standard library's `#[test]`.
fn is_test(attribute: &Attribute) -> bool {
    let path = attribute.path();
    let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    matches!(names.as_slice(), ["test"] | ["core" | "std", "prelude", _, "test"])
}

impl Function {
    fn expand(self, kind: Kind, arguments: &Arguments, path: &TokenStream) -> TokenStream {
        let builder = arguments.builder(kind, path);
        let Function { attributes, visibility, mut signature, body, braces } = self;
        signature.asyncness = None;
        let output = nameable_output(&signature.output);
        let typed = output.as_ref().map(returns);
        let body = braced(quote!(#typed #body), braces);
        let (test, pinned, failed) = match kind {
            Kind::Main => (None, None, quote!(#path::__private::start_failed(error))),
            Kind::Test => (
                Some(quote!(#[::core::prelude::v1::test])),
                output.as_ref().map(pinned),
                quote!(::core::panic!("the runtime could not start: {}", error)),
            ),
        };
        quote! {
            #test
            #(#attributes)*
            #visibility #signature {
                let body = async #body;
                #pinned
                match #builder.run(body) {
                    ::core::result::Result::Ok(output) => output,
                    ::core::result::Result::Err(error) => #failed,
                }
            }
        }
    }
}

/// The type that a function returns, or `None` if an expression can't name it.
fn nameable_output(output: &ReturnType) -> Option<TokenStream> {
    match output {
        ReturnType::Default => Some(quote!(())),
        ReturnType::Type(_, output) => match &**output {
            Type::Never(_) => None,
            output => {
                let output = output.to_token_stream();
                (!mentions_impl(output.clone())).then_some(output)
            }
        },
    }
}

fn mentions_impl(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "impl",
        TokenTree::Group(group) => mentions_impl(group.stream()),
        _ => false,
    })
}

/// A statement that never returns but tells the compiler the type of an async block, so that `?`
/// and `.into()` find their types, and a mismatch is reported at the expression that has it, with
/// the type in the signature as the reason.
fn returns(output: &TokenStream) -> TokenStream {
    let span = output.span().resolved_at(Span::call_site());
    let returned = quote_spanned!(span=> return output;);
    quote! {
        if let ::core::option::Option::Some(output) = ::core::option::Option::None::<#output> {
            #returned
        }
    }
}

/// Statements that hide a body's own type: so the runtime's `run` is compiled once for all tests
/// of a return type, not once for each test.
fn pinned(output: &TokenStream) -> TokenStream {
    quote! {
        let body: ::core::pin::Pin<&mut dyn ::core::future::Future<Output = #output>> =
            ::core::pin::pin!(body);
    }
}

/// Braces with the place of those that the user wrote: a missing tail expression is reported there.
fn braced(tokens: TokenStream, span: Span) -> Group {
    let mut group = Group::new(proc_macro2::Delimiter::Brace, tokens);
    group.set_span(span);
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> TokenStream {
        text.parse().expect("the test's text is tokens")
    }

    fn expanded(kind: Kind, arguments: &str, item: &str) -> String {
        expand(kind, tokens(arguments), tokens(item), || None).to_string()
    }

    /// Compares as tokens without the space between them, so that the expected text can be laid
    /// out for reading.
    #[track_caller]
    fn assert_expands(kind: Kind, arguments: &str, item: &str, expected: &str) {
        let dense = |text: String| text.replace(' ', "");
        assert_eq!(dense(expanded(kind, arguments, item)), dense(tokens(expected).to_string()));
    }

    #[track_caller]
    fn assert_refused(kind: Kind, item: &str, message: &str) {
        let text = expanded(kind, "", item);
        assert!(text.starts_with(":: core :: compile_error"), "{text}");
        assert!(text.contains(&format!("{message:?}")), "{text}");
    }

    #[test]
    fn main_runs_its_body_and_reports_a_failed_start() {
        assert_expands(
            Kind::Main,
            "shards = 2",
            "async fn main() -> std::io::Result<()> { work().await?; Ok(()) }",
            r#"fn main() -> std::io::Result<()> {
                let body = async {
                    if let ::core::option::Option::Some(output) =
                        ::core::option::Option::None::<std::io::Result<()>>
                    {
                        return output;
                    }
                    work().await?; Ok(())
                };
                match ::runtime::Builder::new_multi_thread().shards(2usize).enable_all().run(body) {
                    ::core::result::Result::Ok(output) => output,
                    ::core::result::Result::Err(error) => ::runtime::__private::start_failed(error),
                }
            }"#,
        );
    }

    #[test]
    fn a_test_keeps_its_attributes_and_hides_the_type_of_its_body() {
        assert_expands(
            Kind::Test,
            "",
            r#"/// Why.
            #[should_panic(expected = "so")]
            pub(crate) async fn it() { panic!("so") }"#,
            r#"#[::core::prelude::v1::test]
            /// Why.
            #[should_panic(expected = "so")]
            pub(crate) fn it() {
                let body = async {
                    if let ::core::option::Option::Some(output) =
                        ::core::option::Option::None::<()>
                    {
                        return output;
                    }
                    panic!("so")
                };
                let body: ::core::pin::Pin<&mut dyn ::core::future::Future<Output = ()>> =
                    ::core::pin::pin!(body);
                match ::runtime::Builder::new_current_thread().enable_all().run(body) {
                    ::core::result::Result::Ok(output) => output,
                    ::core::result::Result::Err(error) =>
                        ::core::panic!("the runtime could not start: {}", error),
                }
            }"#,
        );
    }

    #[test]
    fn a_type_that_can_not_be_named_is_left_to_inference() {
        for output in ["!", "impl Termination", "Result<impl Sized, Vec<(impl Copy,)>>"] {
            assert_expands(
                Kind::Test,
                "",
                &format!("async fn it() -> {output} {{ run() }}"),
                &format!(
                    r#"#[::core::prelude::v1::test]
                    fn it() -> {output} {{
                        let body = async {{ run() }};
                        match ::runtime::Builder::new_current_thread().enable_all().run(body) {{
                            ::core::result::Result::Ok(output) => output,
                            ::core::result::Result::Err(error) =>
                                ::core::panic!("the runtime could not start: {{}}", error),
                        }}
                    }}"#
                ),
            );
        }
    }

    #[test]
    fn a_function_other_than_main_may_have_arguments() {
        let text =
            expanded(Kind::Main, "", "async fn serve<T: Copy>(&self, port: T) -> T { port }");
        assert!(text.starts_with("fn serve < T : Copy > (& self , port : T) -> T {"), "{text}");
    }

    #[test]
    fn inner_attributes_move_to_the_function() {
        let text = expanded(Kind::Main, "", "async fn main() { #![allow(unused)] let x = 1; }");
        assert!(text.starts_with("# [allow (unused)] fn main ()"), "{text}");
        assert!(text.contains("let x = 1 ; }"), "{text}");
    }

    #[test]
    fn the_runtime_is_named_by_the_key_of_the_dependency() {
        let path = |arguments: &str, find: fn() -> Option<String>| {
            let arguments = Arguments::parse(Kind::Main, tokens(arguments)).expect("they are good");
            runtime_path(&arguments, find).to_string().replace(' ', "")
        };
        assert_eq!(path("", || None), "::runtime");
        assert_eq!(path("", || Some("ringhold".into())), "::runtime");
        assert_eq!(path("", || Some("tokio".into())), "::tokio");
        assert_eq!(path("", || Some("the_runtime".into())), "::the_runtime");
        assert_eq!(path(r#"crate = "a::b""#, || Some("tokio".into())), "a::b");
        assert_eq!(path("crate = \"::a\"", || None), "::a");
        assert_eq!(path("crate = crate::inner", || None), "crate::inner");
    }

    #[test]
    fn a_function_that_is_not_async_is_refused() {
        assert_refused(
            Kind::Main,
            "fn main() {}",
            "`#[main]` needs an async function: `async fn main`",
        );
        assert_refused(
            Kind::Test,
            "fn it() {}",
            "`#[test]` needs an async function: `async fn it`",
        );
    }

    #[test]
    fn arguments_that_nobody_gives_are_refused() {
        assert_refused(
            Kind::Main,
            "async fn main(arguments: Vec<String>) {}",
            "`main` takes no arguments; the command line is in `std::env::args`",
        );
        assert_refused(
            Kind::Test,
            "async fn it(n: u32) {}",
            "a test takes no arguments, since nobody could give them to it",
        );
    }

    #[test]
    fn a_second_test_attribute_is_refused() {
        let message = "this attribute makes the function a test a second time: remove it";
        assert_refused(Kind::Test, "#[test] async fn it() {}", message);
        assert_refused(Kind::Test, "#[core::prelude::v1::test] async fn it() {}", message);
        let text = expanded(Kind::Test, "", "#[my::test] async fn it() {}");
        assert!(!text.contains("compile_error"), "{text}");
    }

    #[test]
    fn a_wrong_argument_leaves_a_function_that_compiles() {
        let text = expanded(Kind::Main, "shards = 0", "async fn main() { work().await }");
        assert!(text.starts_with(":: core :: compile_error ! {"), "{text}");
        assert!(text.contains("`shards` must be at least 1"), "{text}");
        assert!(text.contains("fn main () { let body = async {"), "{text}");
        assert!(text.contains(":: runtime :: Builder :: new_multi_thread () . enable_all ()"));
    }

    #[test]
    fn what_is_not_a_function_stays_and_is_reported() {
        let text = expanded(Kind::Main, "", "struct S;");
        assert!(text.starts_with(":: core :: compile_error ! {"), "{text}");
        assert!(text.ends_with("struct S ;"), "{text}");
    }
}
