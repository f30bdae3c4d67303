//! `select!`: how its branches are written, and what they are worth.
//!
//! These are the cases of tokio's own tests, and some more of what its users write.

use std::future::{IntoFuture, Ready, pending, ready};
use std::pin::pin;

use runtime::sync::{mpsc, oneshot};
use runtime::task;

async fn one() -> usize {
    1
}

async fn never() -> ! {
    pending().await
}

#[runtime::test]
async fn one_branch_is_written_with_a_comma_without_one_and_in_braces() {
    let with_comma = runtime::select! {
        value = async { 1 } => value,
    };
    let without = runtime::select! {
        value = async { 2 } => value
    };
    let braced = runtime::select! {
        value = async { 3 } => { value }
    };
    let both = runtime::select! {
        value = async { 4 } => { value },
    };
    let in_parentheses = runtime::select!(value = one() => value + 4);
    let future = one();
    let of_a_variable = runtime::select![value = future => value + 5];
    let values = [with_comma, without, braced, both, in_parentheses, of_a_variable];
    assert_eq!(values, [1, 2, 3, 4, 5, 6]);
}

#[runtime::test]
async fn blocks_need_no_comma_and_expressions_do() {
    for (picked, expected) in [(0, "block"), (1, "match"), (2, "if"), (3, "call"), (4, "last")] {
        let name = runtime::select! {
            biased;
            () = ready(()), if picked == 0 => { "block" }
            () = ready(()), if picked == 1 => match picked { 1 => "match", _ => "other" },
            () = ready(()), if picked == 2 => if picked == 2 { "if" } else { "other" },
            () = ready(()), if picked == 3 => String::leak("call".to_owned()),
            () = ready(()) => { "last" },
        };
        assert_eq!(name, expected);
    }
}

#[runtime::test]
async fn a_lone_else_is_the_value() {
    let unbiased = runtime::select! {
        else => 1,
    };
    let biased = runtime::select! {
        biased;
        else => { 2 }
    };
    assert_eq!((unbiased, biased), (1, 2));
}

#[runtime::test]
async fn a_select_is_nested_in_a_handler() {
    let as_an_expression = runtime::select! {
        outer = async { 1 } => runtime::select! {
            inner = async { outer + 1 } => inner,
        },
    };
    let in_a_block = runtime::select! {
        outer = async { 1 } => {
            runtime::select! {
                inner = async { 2 } => outer + inner,
            }
        }
    };
    let in_a_future = runtime::select! {
        outer = async { runtime::select! { inner = one() => inner * 4 } } => outer,
    };
    let in_else = runtime::select! {
        Some(value) = async { None } => value,
        else => runtime::select! { inner = async { 5 } => inner },
    };
    assert_eq!((as_an_expression, in_a_block, in_a_future, in_else), (2, 3, 4, 5));
}

#[runtime::test]
async fn what_can_be_made_a_future_is_awaited() {
    struct Later;
    impl IntoFuture for Later {
        type Output = u32;
        type IntoFuture = Ready<u32>;

        fn into_future(self) -> Ready<u32> {
            ready(5)
        }
    }
    let value = runtime::select! { value = Later => value };
    assert_eq!(value, 5);
}

#[runtime::test]
async fn a_borrowed_temporary_lives_as_long_as_the_futures() {
    runtime::select! {
        () = &mut ready(()) => {}
    }
    let value = runtime::select! {
        value = &mut Box::pin(async { 6 }) => value,
        value = &mut ready(6) => value,
    };
    assert_eq!(value, 6);
}

#[runtime::test]
async fn a_never_ready_branch_needs_no_type() {
    let value = runtime::select! {
        _ = never() => 0,
        value = one() => value,
    };
    assert_eq!(value, 1);
    let value = runtime::select! {
        never = never() => never,
        value = one() => value,
    };
    assert_eq!(value, 1);
}

#[runtime::test]
async fn outputs_are_bound_by_any_pattern() {
    let text = || async { Some(String::from("1")) };
    runtime::select! {
        Some(mut text) = text() => {
            text.push('2');
            assert_eq!(text, "12");
        }
    }
    runtime::select! {
        Some(ref text) = text() => assert_eq!(*text, "1"),
    }
    runtime::select! {
        Some(ref mut text) = text() => {
            text.push('3');
            assert_eq!(*text, "13");
        },
    }
    let mut future = pin!(async { 1 });
    let value = runtime::select! {
        mut value = &mut future => {
            value += 1;
            value
        }
    };
    assert_eq!(value, 2);
    struct Point {
        x: i32,
        y: i32,
    }
    let pair = (Point { x: 4, y: 3 }, [1, 2, 3]);
    let sum = runtime::select! {
        whole @ (Point { x: 1..=9, .. }, [mut first, .., last]) = ready(pair) => {
            first += whole.0.x + whole.0.y;
            first + last
        }
    };
    assert_eq!(sum, 11);
    let either = runtime::select! {
        Ok(value) | Err(value) = async { Err::<u32, u32>(7) } => value,
    };
    assert_eq!(either, 7);
}

#[runtime::test]
async fn references_constants_and_ranges_are_patterns() {
    const LIMIT: u32 = 9;
    static NUMBERS: [u32; 2] = [8, 9];
    for number in &NUMBERS {
        let name = runtime::select! {
            LIMIT = async { *number } => "the limit",
            Some(&small) = async { Some(number) } => if small < LIMIT { "below" } else { "not" },
        };
        let expected = if *number == 9 { ["the limit", "not"] } else { ["below", "below"] };
        assert!(expected.contains(&name), "{number}: {name}");
    }
    let (mut left, mut right) = (1, 2);
    let swapped = runtime::select! {
        (&mut ref mut left, &mut ref mut right) = ready((&mut left, &mut right)) => {
            std::mem::swap(left, right);
            (*left, *right)
        }
    };
    assert_eq!(swapped, (2, 1));
    assert_eq!((left, right), (2, 1));
    let kind = runtime::select! {
        biased;
        "other" = async { "text" } => 1,
        ..=0 | 100.. = async { 50 } => 2,
        None = async { Some(1) } => 3,
        'a'..='z' = async { 'k' } => 4,
    };
    assert_eq!(kind, 4);
}

#[runtime::test]
async fn outputs_that_are_no_copy_are_moved_to_their_handler() {
    struct Moved(Vec<u8>);
    let Moved(bytes) = runtime::select! {
        moved = async { Moved(vec![1, 2]) } => moved,
        Ok(moved) = async { Err::<Moved, ()>(()) } => moved,
    };
    assert_eq!(bytes, [1, 2]);
}

#[runtime::test]
async fn handlers_and_futures_may_leave_the_function_around_them() {
    async fn asks(mark: bool) -> Result<u32, String> {
        let value = runtime::select! {
            value = async { if mark { Ok(1) } else { Err("no".to_string()) } } => value?,
        };
        Ok(value + 1)
    }
    async fn fails_while_it_is_made(future: Result<Ready<u32>, String>) -> Result<u32, String> {
        runtime::select! {
            value = future? => Ok(value),
        }
    }
    async fn returns() -> u32 {
        let text = runtime::select! {
            biased;
            value = one() => return value as u32 + 10,
            text = async { "text" } => text,
        };
        text.len() as u32
    }
    assert_eq!(asks(true).await, Ok(2));
    assert_eq!(asks(false).await, Err("no".to_string()));
    assert_eq!(fails_while_it_is_made(Err("early".into())).await, Err("early".into()));
    assert_eq!(fails_while_it_is_made(Ok(ready(3))).await, Ok(3));
    assert_eq!(returns().await, 11);
}

#[runtime::test]
async fn handlers_break_and_continue_loops_and_blocks() {
    let mut rounds = 0;
    let found = 'outer: loop {
        for _ in 0..2 {
            rounds += 1;
            runtime::select! {
                _ = one(), if rounds < 3 => continue,
                _ = one(), if rounds >= 5 => break 'outer rounds,
                else => {}
            }
        }
    };
    assert_eq!(found, 5);
    let block = 'block: {
        runtime::select! {
            _ = one() => break 'block 3,
        }
    };
    assert_eq!(block, 3);
}

#[runtime::test]
async fn handlers_and_conditions_await() {
    let value = runtime::select! {
        value = one(), if one().await == 2 => value + 100,
        value = one() => {
            task::yield_now().await;
            value + one().await
        }
    };
    assert_eq!(value, 2);
    let sum = runtime::select! { value = ready(one().await + 3) => value + one().await };
    assert_eq!(sum, 5);
}

#[runtime::test]
async fn the_names_of_the_expansion_are_not_those_of_the_user() {
    let (disabled, futures, selected, cx) = (1, 2, 3, 4);
    let (branch, output, is_pending, enabled) = (5, 6, 7, true);
    let (future0, future1, left, right, matches) = (8, 9, 10, 11, 12);
    let sum = runtime::select! {
        biased;
        _ = async { disabled + futures }, if !enabled => 0,
        output = async { disabled + futures + selected + cx + branch + output + is_pending },
            if enabled =>
        {
            output + disabled + futures + selected + cx + future0 + future1 + left + right + matches
        }
    };
    assert_eq!(sum, 28 + 10 + 50);
}

#[runtime::test]
async fn the_names_of_the_library_may_be_the_users() {
    #[derive(Debug, PartialEq)]
    enum Poll {
        Ready,
        Pending,
    }
    struct Future;
    fn ready<T>(_: T) -> Poll {
        Poll::Ready
    }
    mod core {
        //! Not that one.
        pub fn pin() -> u32 {
            3
        }
    }
    let polled = runtime::select! {
        Poll::Pending = async { Poll::Pending }, if core::pin() == 4 => Poll::Pending,
        Future = async { Future } => ready(()),
    };
    assert_eq!(polled, Poll::Ready);
}

macro_rules! race {
    ($first:pat = $future:expr, if $condition:expr => $handler:expr; $block:block; $other:expr) => {
        runtime::select! {
            $first = $future, if $condition => $handler,
            _ = pending::<()>() => $block
            else => $other
        }
    };
}

macro_rules! hygienic {
    ($value:expr) => {{
        let value = 1;
        runtime::select! { inner = async { value } => inner + $value }
    }};
}

#[runtime::test]
async fn a_macro_passes_fragments_on() {
    let value = 100;
    assert_eq!(hygienic!(value), 101);
    let maybe = |some: bool| async move { if some { Ok(1) } else { Err(2) } };
    let picked = race!(Ok(n) | Err(n) = maybe(false), if 1 + 1 == 2 => n * 2 + 1; { 0 }; 0);
    assert_eq!(picked, 5);
    let picked = race!(Ok(n) = maybe(true), if value > 3 || picked < 2 => n; { 0 }; 0);
    assert_eq!(picked, 1);
}

#[runtime::test]
async fn a_select_stands_where_any_expression_does() {
    let closure = |n: u32| async move {
        runtime::select! { m = async { n } => m + 1 }
    };
    assert_eq!(closure(1).await, 2);
    let sum = runtime::select! { n = async { 1 } => n } + runtime::select!(n = async { 2 } => n);
    assert_eq!(sum, 3);
    let task = runtime::spawn(async {
        runtime::select! { n = async { 3 } => n }
    });
    assert_eq!(task.await.unwrap(), 3);
    let local: Result<u8, ()> = async { Ok(runtime::select! { n = async { 4u8 } => n }) }.await;
    assert_eq!(local, Ok(4));
    let (sender, receiver) = oneshot::channel();
    sender.send(5).unwrap();
    runtime::select! {
        sent = receiver => assert_eq!(sent, Ok(5)),
    };
}

#[runtime::test]
async fn what_does_not_match_is_disabled_until_all_are() {
    let (first, mut from_first) = mpsc::unbounded_channel();
    let (second, mut from_second) = mpsc::unbounded_channel();
    runtime::spawn(async move {
        second.send(1).unwrap();
        task::yield_now().await;
        first.send(2).unwrap();
        task::yield_now().await;
        second.send(3).unwrap();
    });
    let mut messages = Vec::new();
    let mut open = true;
    while open {
        runtime::select! {
            Some(message) = from_first.recv() => messages.push(message),
            Some(message) = from_second.recv() => {
                messages.push(message);
            }
            else => {
                open = false;
            }
        }
    }
    // When both channels have messages, either may be heard first.
    messages.sort_unstable();
    assert_eq!(messages, [1, 2, 3]);
}

#[runtime::test]
#[should_panic(expected = "every branch of this `select!` is disabled")]
async fn without_else_it_panics_when_no_output_matches() {
    runtime::select! {
        Some(()) = async { None } => {}
        Ok(()) = async { Err(()) } => {}
    }
}

#[runtime::test]
#[should_panic(expected = "there is no `else`")]
async fn without_else_it_panics_when_all_conditions_are_false() {
    runtime::select! {
        () = pending(), if false => {}
        () = pending(), if 1 > 2 => {}
    }
}

/// From tokio's issues: a lint of clippy's that the literals of an expansion must not set off.
#[warn(clippy::default_numeric_fallback, clippy::pedantic)]
#[runtime::test]
async fn clippy_has_nothing_to_say() {
    runtime::select! {
        () = async {} => (),
        else => (),
    }
}

macro_rules! many {
    ($($number:literal)*) => {
        runtime::select! { $(() = ready(()), if false => $number,)* n = async { 64 } => n }
    };
}

#[runtime::test]
async fn there_may_be_sixty_four_branches() {
    let last = many!(
        1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33
        34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    );
    assert_eq!(last, 64);
}

/// How many bytes a future has that waits for these with each of the two.
macro_rules! bytes {
    ($($future:ident)*) => {{
        let ours = async {
            $(let $future = ready(0i32);)*
            runtime::select! { $(_ = $future => {})* }
        };
        let theirs = async {
            $(let $future = ready(0i32);)*
            tokio::select! { $(_ = $future => {})* }
        };
        (size_of_val(&ours), size_of_val(&theirs))
    }};
}

#[test]
fn it_is_no_larger_than_tokios() {
    assert_eq!(bytes!(a), (32, 32));
    assert_eq!(bytes!(a b), (40, 40));
    assert_eq!(bytes!(a b c), (48, 48));
    assert_eq!(bytes!(a b c d e f g h), (88, 88));
}
