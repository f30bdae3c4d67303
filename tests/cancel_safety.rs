//! tokio's table of what may be dropped in a `select!`, row by row: each row that concerns sockets
//! is one test, whose one source runs on tokio and on Ringhold.
//!
//! A row makes its call again and again, and drops it at some moment. The table says what is lost
//! by that, which mostly is nothing: what the peer sends is numbered, and comes once and in order.
//! `RINGHOLD_ROWS` sets how many numbers there are in each row.

#![allow(clippy::duplicate_mod)] // The point of this program.

mod common;
mod dice;

#[path = "."]
mod on_tokio {
    use tokio as rt;

    mod rows;
}

#[path = "."]
mod on_ringhold {
    use runtime as rt;

    mod rows;
}
