//! One value that goes from one thread to another, which waits for it.

use std::sync::{Arc, PoisonError};

use ringhold_kernel::sync::{Condvar, Mutex};

/// Gives the value; dropped without that, it tells the other side that nothing comes.
pub(crate) struct Giver<T>(Arc<Place<T>>);

/// Waits for the value.
pub(crate) struct Taker<T>(Arc<Place<T>>);

struct Place<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Awaited,
    Given(T),
    Over,
}

pub(crate) fn handover<T>() -> (Giver<T>, Taker<T>) {
    let place = Arc::new(Place { state: Mutex::new(State::Awaited), changed: Condvar::new() });
    (Giver(place.clone()), Taker(place))
}

impl<T> Giver<T> {
    pub(crate) fn give(self, value: T) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Given(value);
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Awaited) {
            *state = State::Over;
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl<T> Taker<T> {
    /// `None` if the giver was dropped instead.
    pub(crate) fn take(self) -> Option<T> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while matches!(*state, State::Awaited) {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match std::mem::replace(&mut *state, State::Over) {
            State::Given(value) => Some(value),
            State::Awaited | State::Over => None,
        }
    }
}
