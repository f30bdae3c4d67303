//! What a `select!` becomes.
//!
//! ```text
//! {
//!     enum Selected<T0, T1> { Branch0(T0), Branch1(T1), Disabled }
//!     let mut disabled = /* a bit for each branch whose condition is false */;
//!     let selected = {
//!         let futures = (first(), second());
//!         let mut futures = pin!(Both::new(futures.0.into_future(), futures.1.into_future()));
//!         poll_fn(|cx| /* polls each, from a random one on, until an output matches */).await
//!     };
//!     match selected {
//!         Selected::Branch0(pattern) => handler,
//!         Selected::Branch1(pattern) => handler,
//!         Selected::Disabled => otherwise,
//!     }
//! }
//! ```
//!
//! The futures are dropped before a handler runs, so a handler may use what they borrowed. The
//! local names are those of the expansion alone (`Span::mixed_site`); the one item, the enum, is
//! visible to the user's code, and so has a name that nobody gives.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::spanned::Spanned;

use super::{Branch, Select};

/// `quote!` for names that the user's code can't see and can't take away.
macro_rules! hygienic {
    ($($tokens:tt)*) => { quote_spanned!(Span::mixed_site()=> $($tokens)*) };
}

fn name(prefix: &str, index: usize) -> Ident {
    Ident::new(&format!("{prefix}{index}"), Span::mixed_site())
}

/// The bit of a branch in the mask of those that are disabled.
fn bit(index: usize) -> Literal {
    Literal::u64_unsuffixed(1 << index)
}

impl Select {
    pub(super) fn expand(&self) -> TokenStream {
        let otherwise = match &self.otherwise {
            Some(otherwise) if self.branches.is_empty() => {
                return hygienic!(match () { () => #otherwise });
            }
            Some(otherwise) => otherwise.to_token_stream(),
            None => hygienic!(::core::panic!(
                "every branch of this `select!` is disabled, by its condition or because its \
                 pattern did not match, and there is no `else`"
            )),
        };
        let outcome = self.declare_outcome();
        let disabled = self.declare_disabled();
        let race = self.race();
        let arms = self.branches.iter().enumerate().map(|(index, branch)| {
            let Branch { pattern, handler, .. } = branch;
            let variant = name("Branch", index);
            hygienic!(__RingholdSelected::#variant(#pattern) => #handler,)
        });
        hygienic!({
            #outcome
            #disabled
            #[allow(unused_mut)]
            let mut selected = #race;
            match selected {
                #(#arms)*
                __RingholdSelected::Disabled => #otherwise,
                #[allow(unreachable_patterns)]
                _ => ::core::unreachable!("this pattern has matched before"),
            }
        })
    }

    /// The type that says which branch it is, with its output.
    fn declare_outcome(&self) -> TokenStream {
        let types: Vec<Ident> = (0..self.branches.len()).map(|n| name("T", n)).collect();
        let variants = (0..self.branches.len()).map(|n| name("Branch", n));
        hygienic! {
            #[allow(dead_code)]
            enum __RingholdSelected<#(#types),*> {
                #(#variants(#types),)*
                Disabled,
            }
        }
    }

    /// The smallest type that has a bit for each branch.
    fn mask(&self) -> TokenStream {
        match self.branches.len() {
            0..=8 => hygienic!(::core::primitive::u8),
            9..=16 => hygienic!(::core::primitive::u16),
            17..=32 => hygienic!(::core::primitive::u32),
            _ => hygienic!(::core::primitive::u64),
        }
    }

    /// All conditions are looked at before any future is made.
    fn declare_disabled(&self) -> TokenStream {
        let mask = self.mask();
        let conditions = self.branches.iter().enumerate().filter_map(|(index, branch)| {
            let condition = branch.condition.as_ref()?;
            let bit = bit(index);
            Some(hygienic! {
                let enabled: ::core::primitive::bool = #condition;
                if !enabled {
                    disabled |= #bit;
                }
            })
        });
        hygienic! {
            let mut disabled: #mask = 0;
            #(#conditions)*
        }
    }

    /// The expression that makes the futures, polls them, and drops them.
    fn race(&self) -> TokenStream {
        let path = &self.path;
        let futures = self.branches.iter().map(|branch| &branch.future);
        let pinned = self.pair(0, self.branches.len());
        let mut split = TokenStream::new();
        let whole = hygienic!(::core::pin::Pin::as_mut(&mut futures));
        self.split(0, self.branches.len(), &whole, &mut split);
        let polls = self.poll_all();
        // The tuple comes first, by itself: what a borrowed temporary in it refers to lives as
        // long as the futures, and its order is that in which they are made.
        hygienic!({
            let futures = (#(#futures,)*);
            let mut futures = ::core::pin::pin!(#pinned);
            let selected = ::core::future::poll_fn(move |cx| {
                #path::__private::poll_select(cx, |cx| {
                    #split
                    let mut is_pending = false;
                    #polls
                    if is_pending {
                        ::core::task::Poll::Pending
                    } else {
                        ::core::task::Poll::Ready(__RingholdSelected::Disabled)
                    }
                })
            })
            .await;
            selected
        })
    }

    /// The futures from `first` to `end` as one value. Halving keeps its type shallow, however many
    /// branches there are.
    fn pair(&self, first: usize, end: usize) -> TokenStream {
        if end - first == 1 {
            let index = Literal::usize_unsuffixed(first);
            // What is no future is reported at the expression that makes it.
            let span = self.branches[first].future.span().resolved_at(Span::mixed_site());
            return quote_spanned!(span=> ::core::future::IntoFuture::into_future(futures.#index));
        }
        let path = &self.path;
        let middle = first.midpoint(end);
        let (left, right) = (self.pair(first, middle), self.pair(middle, end));
        hygienic!(#path::__private::Both::new(#left, #right))
    }

    /// Statements that take `whole`, which [`pair`](Self::pair) made, apart into pinned futures.
    fn split(&self, first: usize, end: usize, whole: &TokenStream, into: &mut TokenStream) {
        if end - first == 1 {
            let future = name("future", first);
            into.extend(hygienic!(let mut #future = #whole;));
            return;
        }
        let path = &self.path;
        let middle = first.midpoint(end);
        into.extend(hygienic!(let (left, right) = #path::__private::Both::split(#whole);));
        // The left half takes its name away from under the right one, so that one is kept first.
        let right = name("right", middle);
        into.extend(hygienic!(let #right = right;));
        self.split(first, middle, &hygienic!(left), into);
        self.split(middle, end, &right.to_token_stream(), into);
    }

    /// Statements that poll each branch once, and return if one of them is it.
    fn poll_all(&self) -> TokenStream {
        let branches = self.branches.iter().enumerate();
        let polls = branches.map(|(index, branch)| self.poll(index, branch));
        if self.biased || self.branches.len() == 1 {
            return hygienic!(#(#[allow(unreachable_code, unused_variables)] #polls)*);
        }
        let path = &self.path;
        let count = self.branches.len() as u32;
        let indices = 0..count;
        hygienic! {
            let mut branch = #path::__private::random_below(#count);
            for _ in 0u32..#count {
                match branch {
                    #(#[allow(unreachable_code, unused_variables)] #indices => #polls)*
                    _ => ::core::unreachable!("there are fewer branches"),
                }
                branch = if branch == #count - 1u32 { 0u32 } else { branch + 1u32 };
            }
        }
    }

    /// The block that polls one branch, unless it is disabled. An output that does not match
    /// disables it. It is looked at within a tuple, where constants and strings stand for
    /// themselves: bare behind a reference they would have to be references.
    fn poll(&self, index: usize, branch: &Branch) -> TokenStream {
        let (bit, future, variant) = (bit(index), name("future", index), name("Branch", index));
        let shape = &branch.shape;
        hygienic!('branch: {
            if disabled & #bit != 0 {
                break 'branch;
            }
            let output = match ::core::future::Future::poll(
                ::core::pin::Pin::as_mut(&mut #future),
                cx,
            ) {
                ::core::task::Poll::Ready(output) => output,
                // An arm that goes elsewhere lets the compiler settle on a type for an output of
                // which nothing else says what it is.
                ::core::task::Poll::Pending => {
                    is_pending = true;
                    break 'branch;
                }
            };
            disabled |= #bit;
            let output = (output,);
            #[allow(unreachable_patterns)]
            let matches = match &output {
                (#shape,) => true,
                _ => false,
            };
            if matches {
                let selected = __RingholdSelected::#variant(output.0);
                return ::core::task::Poll::Ready(selected);
            }
        })
    }
}
