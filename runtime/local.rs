//! Values of which each shard has its own.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringhold_buffers::foreign;

use crate::context;

/// How often the values that destructors of other values make are dropped, too.
const ROUNDS_OF_DROPS: u32 = 5;

/// A value of which each shard has its own, made when the shard first asks for it.
///
/// Unlike `thread_local!`, it belongs to the shard and not to its thread: it is dropped on its
/// shard when the shard's tasks have been dropped, while files can still be closed, and simulated
/// shards that turn on one thread have one each. It needs neither be `Send` nor `Sync`.
///
/// ```
/// # ringhold_runtime::Builder::new_multi_thread().shards(2).run(async {
/// use std::cell::Cell;
/// use ringhold_runtime::task::{ShardLocal, on_every_shard, spawn_on};
///
/// static SERVED: ShardLocal<Cell<u64>> = ShardLocal::new(|| Cell::new(0));
///
/// spawn_on(1, || async { SERVED.with(|served| served.set(7)) }).await.unwrap();
/// let mut counts = Vec::new();
/// for count in on_every_shard(|_| async { SERVED.with(Cell::get) }) {
///     counts.push(count.await.unwrap());
/// }
/// assert_eq!(counts, [0, 7]);
/// # }).unwrap();
/// ```
pub struct ShardLocal<T: 'static> {
    /// Its place among a shard's values, counted from 1; 0 until it is known.
    place: AtomicUsize,
    make: fn() -> T,
    _value: PhantomData<fn() -> T>,
}

impl<T: 'static> fmt::Debug for ShardLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardLocal").finish_non_exhaustive()
    }
}

impl<T: 'static> ShardLocal<T> {
    /// A value that `make` makes on each shard.
    pub const fn new(make: fn() -> T) -> ShardLocal<T> {
        ShardLocal { place: AtomicUsize::new(0), make, _value: PhantomData }
    }

    /// Calls `f` with the running shard's value.
    ///
    /// # Panics
    ///
    /// Where no shard is running; and if making the value asks for it.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match self.value() {
            Some(value) => f(&value),
            None => panic!(
                "a shard-local value must be used from a task, or from within `#[runtime::main]` \
                 or `Builder::run`: there is no shard on this thread"
            ),
        }
    }

    /// Calls `f` with the running shard's value; `None` where no shard is running.
    pub fn try_with<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.value().map(|value| f(&value))
    }

    fn place(&self) -> usize {
        static PLACES: AtomicUsize = AtomicUsize::new(1);
        let known = self.place.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let next = PLACES.fetch_add(1, Ordering::Relaxed);
        match self.place.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(other) => other,
        }
    }

    fn value(&self) -> Option<Rc<T>> {
        let place = self.place();
        context::with_shard(|shard| {
            let locals = shard?.locals();
            // The user's code runs while nothing is borrowed.
            let value = locals.get(place).unwrap_or_else(|| {
                let made: Rc<dyn Any> = Rc::new((self.make)());
                locals.put(place, made)
            });
            Some(value.downcast().expect("a place has one type"))
        })
    }
}

/// The values of one shard.
#[derive(Default)]
pub(crate) struct Locals(RefCell<Vec<Option<Rc<dyn Any>>>>);

impl Locals {
    fn get(&self, place: usize) -> Option<Rc<dyn Any>> {
        self.0.borrow().get(place).cloned().flatten()
    }

    fn put(&self, place: usize, value: Rc<dyn Any>) -> Rc<dyn Any> {
        let mut values = self.0.borrow_mut();
        if values.len() <= place {
            values.resize(place + 1, None);
        }
        if values[place].is_some() {
            drop(values);
            foreign::discard(value);
            panic!("making a shard-local value asked for that very value");
        }
        values[place] = Some(value.clone());
        value
    }

    /// Drops them all, and what their destructors make meanwhile, up to a bound; beyond it they
    /// leak.
    pub(crate) fn clear(&self) {
        for _ in 0..ROUNDS_OF_DROPS {
            let values = mem::take(&mut *self.0.borrow_mut());
            if values.is_empty() {
                return;
            }
            for value in values {
                // A panic must not cost another value its destructor, nor the shard its end.
                foreign::discard(value);
            }
        }
        // Those that are made still would go with the shard, outside of it.
        mem::forget(mem::take(&mut *self.0.borrow_mut()));
    }
}
