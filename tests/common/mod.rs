//! What the tests share: tests in a process of their own, loud skips, and readings of `/proc`.

#![allow(dead_code, unused_imports)] // Each test file is a program that uses a part of this.

mod altered;
pub mod example;
mod isolated;
pub mod limits;
pub mod proc;
pub mod server;
pub mod start;

use std::io::{self, Write};

pub use altered::{Altered, AlteredSystem};
pub use isolated::{Isolated, isolated, turn_of_the_user};

/// Says on the standard error, past the harness's capture, that a test is skipped; the test returns
/// after it. With `RINGHOLD_MUST_RUN` in the environment it fails instead, for machines that are
/// meant to skip nothing.
#[track_caller]
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}");
    assert!(std::env::var_os("RINGHOLD_MUST_RUN").is_none(), "{line}");
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether a test that changes the whole machine was asked for by `variable=1`. If not it says so,
/// also where nothing is meant to be skipped: such a test runs alone, or not at all.
pub fn is_asked_for(test: &str, variable: &str) -> bool {
    let asked = std::env::var_os(variable).is_some_and(|value| value == "1");
    if !asked {
        let _ = writeln!(io::stderr(), "NOT ASKED FOR {test}: {variable}=1 runs it");
    }
    asked
}

/// A count that the environment may raise for the long runs.
pub fn count(variable: &str, default: u32) -> u32 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no count")),
        Err(_) => default,
    }
}
