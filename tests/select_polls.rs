//! `select!`: when its futures are made, polled and dropped.
//!
//! These are the cases of tokio's own tests, and some more of what its users rely on.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::task::Poll;

use runtime::sync::oneshot;
use runtime::task::{consume_budget, yield_now};
use tokio_test::{assert_pending, assert_ready, task};

async fn borrow(_: &mut i32) {}
async fn nothing() {}

#[runtime::test]
async fn one_ready_branch_is_enough_and_the_others_are_not_polled_on() {
    let polls = Cell::new(0);
    let count = || polls.set(polls.get() + 1);
    let value = runtime::select! {
        one = async { count(); 1 } => one,
        two = async { count(); 2 } => two,
    };
    assert!(value == 1 || value == 2);
    assert_eq!(polls.get(), 1);
}

#[runtime::test]
async fn a_future_may_own_what_is_around_it() {
    let text = String::from("hello");
    let length = runtime::select! {
        length = async {
            yield_now().await;
            let length = text.len();
            drop(text);
            length
        } => length
    };
    assert_eq!(length, 5);
}

#[runtime::test]
async fn the_branch_that_is_ready_is_taken() {
    let (sender, receiver) = oneshot::channel::<i32>();
    let (_kept, never) = oneshot::channel::<i32>();
    sender.send(1).unwrap();
    let value = runtime::select! {
        value = receiver => { value.unwrap() },
        _ = never => unreachable!(),
    };
    assert_eq!(value, 1);
}

#[runtime::test]
async fn what_was_only_borrowed_goes_on_afterwards() {
    let (first, mut from_first) = oneshot::channel::<i32>();
    let (second, mut from_second) = oneshot::channel::<i32>();
    first.send(1).unwrap();
    second.send(2).unwrap();
    let sum;
    runtime::select! {
        value = &mut from_first => sum = value.unwrap() + from_second.await.unwrap(),
        value = &mut from_second => {
            sum = value.unwrap() + from_first.await.unwrap();
        },
    }
    assert_eq!(sum, 3);
}

#[runtime::test]
async fn a_handler_may_use_what_the_futures_borrowed() {
    for enabled in [true, false] {
        let mut value = 234;
        runtime::select! {
            biased;
            () = borrow(&mut value), if false => {}
            () = nothing(), if enabled => {
                value += 5;
            }
            else => value += 27,
        }
        assert_eq!(value, if enabled { 239 } else { 261 });
    }
}

/// Notes its letter when it is dropped.
struct Noted<'a>(&'a RefCell<String>, char);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

macro_rules! order_of_life {
    ($select:path, $notes:ident) => {{
        let note = |letter: char| $notes.borrow_mut().push(letter);
        let make = |letter: char, is_ready: bool| {
            note(letter);
            let noted = Noted(&$notes, letter.to_ascii_uppercase());
            async move {
                let _noted = noted;
                if !is_ready {
                    pending::<()>().await;
                }
            }
        };
        let condition = |letter: char| {
            note(letter);
            letter != 'y'
        };
        $select! {
            biased;
            () = make('a', false), if condition('x') => {}
            () = make('b', true), if condition('y') => {}
            () = make('c', true), if condition('z') => note('!'),
            () = make('d', true) => {}
        }
        note('.');
    }};
}

#[runtime::test]
async fn conditions_come_first_then_futures_in_their_order_and_all_are_dropped_before_a_handler() {
    let notes = RefCell::new(String::new());
    order_of_life!(runtime::select, notes);
    // The one that is ready drops what it holds when it ends.
    assert_eq!(notes.take(), "xyzabcdCABD!.");
    order_of_life!(tokio::select, notes);
    assert_eq!(notes.take(), "xyzabcdCABD!.");
}

#[runtime::test]
async fn a_future_of_a_disabled_branch_is_made_and_never_polled() {
    let made = Cell::new(0);
    let (sender, receiver) = oneshot::channel();
    // Nothing says what its output is.
    let never_polled = poll_fn(|_| panic!("it is disabled"));
    let mut select = task::spawn(async {
        runtime::select! {
            _ = { made.set(made.get() + 1); never_polled }, if false => unreachable!(),
            value = receiver => value.unwrap(),
        }
    });
    assert_pending!(select.poll());
    assert_eq!(made.get(), 1);
    sender.send(()).unwrap();
    assert!(select.is_woken());
    assert_ready!(select.poll());
    assert_eq!(made.get(), 1);
}

#[runtime::test]
async fn a_future_whose_output_does_not_match_is_never_polled_again() {
    let (sender, receiver) = oneshot::channel();
    let mut is_polled = false;
    let once = poll_fn(|_| {
        assert!(!is_polled);
        is_polled = true;
        Poll::Ready(None::<()>)
    });
    let mut select = task::spawn(async {
        runtime::select! {
            Some(()) = once => unreachable!(),
            value = receiver => value.unwrap(),
        }
    });
    assert_pending!(select.poll());
    assert_pending!(select.poll());
    sender.send(1).unwrap();
    assert_eq!(assert_ready!(select.poll()), 1);
}

#[runtime::test]
async fn an_output_that_does_not_match_is_dropped_at_once() {
    let notes = RefCell::new(String::new());
    let mut select = task::spawn(async {
        runtime::select! {
            (1, _noted) = async { (0, Noted(&notes, 'a')) } => {}
            () = pending() => {}
        }
    });
    assert_pending!(select.poll());
    assert_eq!(*notes.borrow(), "a");
}

#[runtime::test]
async fn a_loop_joins_two_futures() {
    let (first, mut from_first) = oneshot::channel();
    let (second, mut from_second) = oneshot::channel();
    let mut joined = task::spawn(async {
        let (mut a, mut b) = (None, None);
        while a.is_none() || b.is_none() {
            runtime::select! {
                value = &mut from_first, if a.is_none() => a = Some(value.unwrap()),
                value = &mut from_second, if b.is_none() => b = Some(value.unwrap())
            }
        }
        (a.unwrap(), b.unwrap())
    });
    assert_pending!(joined.poll());
    first.send(123).unwrap();
    assert!(joined.is_woken());
    assert_pending!(joined.poll());
    second.send(456).unwrap();
    assert!(joined.is_woken());
    assert_eq!(assert_ready!(joined.poll()), (123, 456));
}

#[runtime::test]
async fn biased_branches_are_polled_from_top_to_bottom() {
    let (_kept, never) = oneshot::channel::<i32>();
    let (second, from_second) = oneshot::channel::<i32>();
    let (third, from_third) = oneshot::channel::<i32>();
    second.send(2).unwrap();
    third.send(3).unwrap();
    let value = runtime::select! {
        biased;
        _ = never => unreachable!(),
        value = from_second => value.unwrap(),
        _ = from_third => panic!("the second one is ready, too"),
    };
    assert_eq!(value, 2);
}

#[runtime::test]
async fn biased_branches_that_wait_are_reached_in_the_end() {
    let (mut one, mut two, mut three) = (pin!(nothing()), pin!(yield_now()), pin!(yield_now()));
    let mut order = Vec::new();
    loop {
        runtime::select! {
            biased;
            () = &mut two, if !order.contains(&2) => order.push(2),
            () = &mut three, if !order.contains(&3) => order.push(3),
            () = &mut one, if !order.contains(&1) => order.push(1),
            else => break,
        }
    }
    assert_eq!(order, [1, 2, 3]);
}

#[runtime::test]
async fn each_poll_reaches_every_branch_that_waits() {
    let polls = RefCell::new(Vec::new());
    let waits = |number: u32| {
        let polls = &polls;
        poll_fn(move |_| -> Poll<()> {
            polls.borrow_mut().push(number);
            Poll::Pending
        })
    };
    let mut select = task::spawn(async {
        runtime::select! {
            () = waits(0) => {}
            () = waits(1) => {}
            () = waits(2), if false => {}
            () = waits(3) => {}
            () = waits(4) => {}
        }
    });
    for _ in 0..100 {
        assert_pending!(select.poll());
        let mut polled = polls.take();
        // They follow each other round the circle, from any of them on.
        let start = polled.iter().position(|&number| number == 0).unwrap();
        polled.rotate_left(start);
        assert_eq!(polled, [0, 1, 3, 4]);
    }
}

#[runtime::test]
async fn no_step_of_the_budget_is_left_for_more_than_128_ready_selects() {
    let select = || async {
        runtime::select! {
            biased;
            () = consume_budget() => {}
            () = ready(()) => {}
        }
    };
    yield_now().await;
    for _ in 0..128 {
        assert!(futures::poll!(pin!(select())).is_ready());
    }
    assert!(futures::poll!(pin!(select())).is_pending());
}

#[runtime::test]
async fn a_loop_over_branches_that_are_always_ready_lets_others_run() {
    let stopped = Rc::new(Cell::new(false));
    let stopper = runtime::task::spawn_local({
        let stopped = stopped.clone();
        async move { stopped.set(true) }
    });
    let mut rounds = 0u32;
    while !stopped.get() {
        rounds += 1;
        assert!(rounds <= 1000, "the other task never ran");
        runtime::select! {
            () = ready(()) => {}
            () = ready(()) => {}
        }
    }
    assert!(rounds >= 128, "{rounds}");
    stopper.await.unwrap();
}

#[runtime::test]
async fn a_select_that_waits_takes_no_step() {
    yield_now().await;
    let mut waiting = pin!(async {
        runtime::select! {
            () = pending() => {}
            () = pending() => {}
        }
    });
    for _ in 0..1000 {
        assert!(futures::poll!(&mut waiting).is_pending());
    }
    assert!(futures::poll!(pin!(consume_budget())).is_ready());
}

#[runtime::test]
async fn a_guard_within_an_expression_lives_until_the_futures_are_made() {
    let lock = Mutex::new(3);
    let value = runtime::select! {
        value = ready(*lock.lock().unwrap()) => value + *lock.lock().unwrap(),
    };
    assert_eq!(value, 6);
}

#[runtime::test]
async fn a_select_is_send_where_its_futures_are() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let value = is_send(async {
        runtime::select! {
            value = async { yield_now().await; 1 } => value,
            value = async { yield_now().await; 1 } => {
                yield_now().await;
                value
            }
        }
    });
    assert_eq!(value.await, 1);
}
