//! The slots of a driver: one for each operation in flight, and the keys that name them.

use std::fmt;
use std::mem;

use ringhold_kernel::Cqe;

use crate::driver::Waiter;
use crate::driver::held::Held;
use crate::op::Operation;

/// Names one operation for as long as anybody may ask for it: the slot's index and the generation
/// of its use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// As it goes through the kernel: the generation above the index.
    user_data: u64,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("index", &self.index())
            .field("generation", &self.generation())
            .finish()
    }
}

impl Key {
    fn new(index: u32, generation: u32) -> Key {
        Key { user_data: u64::from(generation) << 32 | u64::from(index) }
    }

    fn index(self) -> u32 {
        self.user_data as u32
    }

    fn generation(self) -> u32 {
        (self.user_data >> 32) as u32
    }

    pub(super) fn user_data(self) -> u64 {
        self.user_data
    }

    /// The operation's final completion.
    pub(super) fn completion(self, result: i32) -> Cqe {
        Cqe { user_data: self.user_data, result, flags: 0 }
    }

    pub(crate) fn from_user_data(user_data: u64) -> Key {
        Key { user_data }
    }

    /// What the completion of its cancel carries. It is no key: no slot has such an index.
    pub(super) fn cancel_data(self) -> u64 {
        self.user_data | CANCELS
    }

    pub(super) fn from_cancel_data(user_data: u64) -> Option<Key> {
        (user_data & CANCELS != 0).then_some(Key { user_data: user_data & !CANCELS })
    }
}

/// What kind of operation it is, as far as that matters to the driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// It may wait for something other than a device.
    pub(super) unbounded: bool,
    /// It may be cancelled when its future is dropped, and when the shard ends.
    pub(super) cancellable: bool,
}

impl Nature {
    pub(super) const fn of<T: Operation>() -> Nature {
        Nature { unbounded: T::UNBOUNDED, cancellable: T::CANCELLABLE }
    }
}

/// One operation in flight, or room for one.
pub(super) struct Slot {
    pub(super) state: SlotState,
    /// Counts the slot's uses, so that a key of an earlier one matches nothing.
    generation: u32,
    /// The low half of the count of what was pushed before it.
    stamp: u32,
    /// The kernel has it; before that it waits in the backlog.
    pub(super) pushed: bool,
    pub(super) nature: Nature,
    pub(super) cancel: Cancel,
}

/// What has become of an operation's cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// There is none.
    No,
    /// It is on its way, or has reached the operation, which then ends soon.
    Sent,
    /// It has found nothing that it could stop, and is sent again.
    InVain,
}

impl Slot {
    /// The kernel has it from now on, as one more than `submitted`.
    #[inline(always)]
    pub(super) fn note_pushed(&mut self, submitted: u64) {
        self.pushed = true;
        self.stamp = submitted as u32;
    }

    /// Whether it waits for a peer, its future is gone, and its cancel is to end it.
    pub(super) fn is_given_up(&self) -> bool {
        let SlotState::Held(held) = &self.state else { return false };
        self.nature.unbounded && self.cancel == Cancel::Sent && held.is_orphan()
    }

    fn is_occupied(&self) -> bool {
        !matches!(self.state, SlotState::Vacant { .. })
    }

    /// How many were pushed before it, of `submitted` in all. Of one that is older than four
    /// billion others it is the count of a newer one.
    pub(super) fn pushed_at(&self, submitted: u64) -> u64 {
        submitted - u64::from((submitted as u32).wrapping_sub(self.stamp))
    }
}

pub(super) enum SlotState {
    /// Vacant; `next` is the vacant slot to be used after this one.
    Vacant { next: u32 },
    /// Its future waits, and holds the resources.
    Waiting(Waiter),
    /// The final completion came, with this result; the future hasn't looked yet.
    Done(i32),
    /// The final completion is for more than a waiter.
    Held(Box<Held>),
}

impl SlotState {
    /// The final completion came: gives who waits, or leaves everything as it is if nobody does.
    #[inline(always)]
    pub(super) fn finish(&mut self, key: Key, result: i32) -> Option<Waiter> {
        match self {
            SlotState::Waiting(_) => mem::replace(self, SlotState::Done(result)).into_waiter(key),
            _ => None,
        }
    }

    /// Who waits, before the final completion.
    #[inline(always)]
    pub(super) fn into_waiter(self, key: Key) -> Option<Waiter> {
        match self {
            SlotState::Waiting(waiter) => Some(waiter),
            SlotState::Held(held) => held.into_waiter(key),
            SlotState::Vacant { .. } | SlotState::Done(_) => polled_after_drop(key),
        }
    }
}

/// The index that ends the list of vacant slots.
const NONE: u32 = u32::MAX;
/// A cancel carries its operation's key with this bit of the index.
const CANCELS: u64 = 1 << 31;
/// Slots have smaller indices, so that the driver and the kernels have user data of their own: that
/// of a cancel, and the sixteen numbers that are no slot's with it either.
const END: u32 = CANCELS as u32 - 16;

/// All slots of a driver. They grow with the operations in flight, and are used again in turn.
pub(super) struct Slots {
    slots: Vec<Slot>,
    vacant: u32,
}

/// A slot that is not used yet.
pub(super) struct Vacant<'a> {
    slot: &'a mut Slot,
    vacant: &'a mut u32,
    index: u32,
}

/// A slot in use, with the means to free it.
pub(super) struct Occupied<'a> {
    pub(super) slot: &'a mut Slot,
    vacant: &'a mut u32,
    index: u32,
}

impl Slots {
    pub(super) fn new() -> Slots {
        Slots { slots: Vec::with_capacity(64), vacant: NONE }
    }

    /// The slot that is to be used next.
    #[inline(always)]
    pub(super) fn vacant(&mut self) -> Vacant<'_> {
        let index = if self.vacant == NONE { self.grow() } else { self.vacant };
        Vacant { slot: &mut self.slots[index as usize], vacant: &mut self.vacant, index }
    }

    /// Makes one more slot, and says which.
    #[cold]
    fn grow(&mut self) -> u32 {
        let index = u32::try_from(self.slots.len()).unwrap_or(NONE);
        assert!(index < END, "more than two billion operations in flight");
        self.slots.push(Slot {
            state: SlotState::Vacant { next: NONE },
            generation: 0,
            stamp: 0,
            pushed: false,
            nature: Nature { unbounded: false, cancellable: false },
            cancel: Cancel::No,
        });
        index
    }

    /// The slot that `key` names, if that operation still has one.
    #[inline(always)]
    pub(super) fn find(&mut self, key: Key) -> Option<Occupied<'_>> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        (slot.generation == key.generation()).then_some(Occupied {
            slot,
            vacant: &mut self.vacant,
            index: key.index(),
        })
    }

    /// The slot that `key` names.
    ///
    /// # Panics
    ///
    /// If that operation no longer has one.
    #[inline(always)]
    pub(super) fn get(&mut self, key: Key) -> Occupied<'_> {
        match self.find(key) {
            Some(occupied) => occupied,
            None => no_such_operation(key),
        }
    }

    /// Whether there is such an operation.
    pub(super) fn has(&self, key: Key) -> bool {
        let slot = self.slots.get(key.index() as usize);
        slot.is_some_and(|slot| slot.generation == key.generation())
    }

    /// Whether there is such an operation, and its final completion is yet to come.
    pub(super) fn is_running(&self, key: Key) -> bool {
        let slot = self.slots.get(key.index() as usize);
        slot.is_some_and(|slot| {
            slot.generation == key.generation() && !matches!(slot.state, SlotState::Done(_))
        })
    }

    /// All that are in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Slot)> {
        let slots = (0..).zip(&self.slots).filter(|(_, slot)| slot.is_occupied());
        slots.map(|(index, slot)| (Key::new(index, slot.generation), slot))
    }

    /// As [`Slots::iter`].
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Slot)> {
        let slots = (0..).zip(&mut self.slots).filter(|(_, slot)| slot.is_occupied());
        slots.map(|(index, slot)| (Key::new(index, slot.generation), slot))
    }
}

#[cold]
fn listed_as_vacant(index: u32) -> ! {
    panic!("slot {index} is in use and is listed as vacant")
}

#[cold]
fn no_such_operation(key: Key) -> ! {
    panic!("no operation {key:?} is in flight on this shard")
}

#[cold]
pub(super) fn polled_after_drop(key: Key) -> ! {
    panic!("operation {key:?} was polled or dropped after it was dropped")
}

impl<'a> Vacant<'a> {
    /// What will name the operation.
    #[inline(always)]
    pub(super) fn key(&self) -> Key {
        Key::new(self.index, self.slot.generation)
    }

    /// Uses the slot for an operation that is yet to be pushed.
    #[inline(always)]
    pub(super) fn fill(self, nature: Nature, state: SlotState) -> &'a mut Slot {
        let SlotState::Vacant { next } = self.slot.state else { listed_as_vacant(self.index) };
        // A vacant slot holds nothing; to forget what it held spares looking for something to drop.
        mem::forget(mem::replace(&mut self.slot.state, state));
        self.slot.pushed = false;
        self.slot.nature = nature;
        self.slot.cancel = Cancel::No;
        *self.vacant = next;
        self.slot
    }
}

impl Occupied<'_> {
    /// Frees the slot, and gives what it held. Its key matches nothing any more.
    #[inline]
    pub(super) fn free(self) -> SlotState {
        self.slot.generation = self.slot.generation.wrapping_add(1);
        let vacant = mem::replace(self.vacant, self.index);
        mem::replace(&mut self.slot.state, SlotState::Vacant { next: vacant })
    }
}

#[cfg(test)]
mod tests {
    use ringhold_buffers::foreign::ForeignWaker;

    use super::*;

    const NATURE: Nature = Nature { unbounded: false, cancellable: true };

    fn insert(slots: &mut Slots) -> Key {
        let vacant = slots.vacant();
        let key = vacant.key();
        vacant.fill(NATURE, SlotState::Waiting(Waiter::Other(ForeignWaker::noop())));
        key
    }

    #[test]
    fn a_key_matches_until_its_slot_is_freed_and_never_again() {
        let mut slots = Slots::new();
        let first = insert(&mut slots);
        assert!(matches!(slots.get(first).free(), SlotState::Waiting(_)));
        assert!(slots.find(first).is_none());
        let second = insert(&mut slots);
        assert_eq!((first.index(), second.index()), (0, 0));
        assert_ne!(first, second);
        assert!(slots.find(first).is_none() && slots.find(second).is_some());
    }

    #[test]
    fn vacant_slots_are_used_before_new_ones_are_made() {
        let mut slots = Slots::new();
        let keys = [(); 3].map(|()| insert(&mut slots));
        assert_eq!(keys.map(Key::index), [0, 1, 2]);
        slots.get(keys[0]).free();
        slots.get(keys[2]).free();
        assert_eq!([(); 3].map(|()| insert(&mut slots).index()), [2, 0, 3]);
        assert_eq!(slots.iter().count(), 4);
    }

    #[test]
    fn a_key_survives_its_way_through_user_data() {
        let key = Key::new(7, u32::MAX);
        assert_eq!(key.user_data(), 0xffff_ffff_0000_0007);
        assert_eq!(Key::from_user_data(key.user_data()), key);
    }

    #[test]
    fn the_user_data_of_a_cancel_names_its_operation_and_is_no_key() {
        let key = Key::new(END - 1, u32::MAX);
        assert_eq!(key.cancel_data(), 0xffff_ffff_ffff_ffef);
        assert_eq!(Key::from_cancel_data(key.cancel_data()), Some(key));
        assert_eq!(Key::from_cancel_data(key.user_data()), None);
        let mut slots = Slots::new();
        let key = insert(&mut slots);
        assert!(slots.find(Key::from_user_data(key.cancel_data())).is_none());
    }

    #[test]
    #[should_panic(expected = "no operation Key { index: 0, generation: 0 } is in flight")]
    fn a_key_without_a_slot_is_named_in_the_panic() {
        Slots::new().get(Key::new(0, 0));
    }
}
