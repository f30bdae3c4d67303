//! Random sequences of calls of the face give the same results, and leave the same tree with the
//! same bytes, on ext4, on tmpfs and on the simulated kernel.
//!
//! A seed is a sequence; `RINGHOLD_SEEDS` says how many of them are tried, and `RINGHOLD_SEED`
//! tries one alone. What tmpfs can't do is done for it in another way, see `differential/world.rs`.

mod common;

#[path = "conformance/place.rs"]
mod place;
#[path = "differential/program.rs"]
mod program;
#[path = "differential/world.rs"]
mod world;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{count, isolated};
use place::{Kernel, LARGE, Place, SMALLEST, Scenario, Setting};
use program::{Call, program};
use ringhold_sim::seeds;
use world::{NO_FILE, World};

/// Calls of each seed.
const CALLS: usize = 80;

/// Seeds, if nothing is said.
const SEEDS: u64 = 60;

/// What each call gave, and what is there at the end; `None` if this kernel can't be had here.
fn said_by(kernel: Kernel, seed: u64, calls: &Rc<Vec<Call>>, name: &str) -> Option<Vec<String>> {
    let rings = if seed.is_multiple_of(2) { SMALLEST } else { LARGE };
    let setting = Setting { kernel, rings, shards: 1 + (seed / 2 % 2) as usize };
    let said = Rc::new(RefCell::new(Vec::new()));
    let (calls, log) = (calls.clone(), said.clone());
    let scenario: Scenario = Rc::new(move |place: Place| {
        let (calls, log) = (calls.clone(), log.clone());
        Box::pin(async move {
            let mut world = World::new(place).await?;
            for call in calls.iter() {
                let said = world.call(call).await;
                log.borrow_mut().push(said);
            }
            let tree = world.tree().await?;
            log.borrow_mut().extend(tree);
            Ok(())
        })
    });
    let ran = place::run(setting, seed, name, &scenario);
    ran.then(|| said.take())
}

/// The first difference, with what it belongs to.
fn compare(seed: u64, calls: &[Call], (one, ours): (Kernel, &[String]), other: &[String]) {
    let differs = (0..ours.len().max(other.len())).find(|&at| ours.get(at) != other.get(at));
    let Some(at) = differs else { return };
    let what = calls.get(at).map_or_else(|| "the tree".to_owned(), |call| format!("{call:?}"));
    let before = &calls[at.min(calls.len()).saturating_sub(12)..at.min(calls.len())];
    panic!(
        "call {at}, {what}, gives\n  {:?} on {one:?} and\n  {:?} on the simulated kernel; before \
         it {before:#?}\nto repeat it: RINGHOLD_SEED={seed} cargo test --test differential",
        ours.get(at),
        other.get(at),
    );
}

/// Runs every seed's calls on each kernel.
fn compare_all(name: &str) {
    let seeds = seeds(SEEDS);
    println!("RINGHOLD_SEED={}, and up to {}", seeds.start, seeds.end - 1);
    let (mut succeeded, mut failed) = (0, 0);
    for seed in seeds {
        let calls = Rc::new(program(seed, CALLS));
        let simulated = said_by(Kernel::Simulated, seed, &calls, name).expect("it is always there");
        for kernel in [Kernel::Ext4, Kernel::Tmpfs] {
            match said_by(kernel, seed, &calls, name) {
                Some(said) => compare(seed, &calls, (kernel, &said), &simulated),
                None => return,
            }
        }
        for said in &simulated[..calls.len()] {
            match &**said {
                NO_FILE => {}
                said if said.starts_with("error") => failed += 1,
                _ => succeeded += 1,
            }
        }
    }
    println!("{succeeded} calls succeeded, {failed} failed, on each kernel alike");
    // Sequences in which little succeeds, or little fails, would show little.
    assert!(succeeded > failed && failed * 10 > succeeded);
}

#[test]
fn the_same_calls_give_the_same_results_and_leave_the_same_tree() {
    compare_all("the_same_calls_give_the_same_results_and_leave_the_same_tree");
}

#[test]
fn the_same_calls_are_forbidden_to_a_user_who_is_not_root() {
    let name = "the_same_calls_are_forbidden_to_a_user_who_is_not_root";
    let deadline = Duration::from_secs(20 + u64::from(count("RINGHOLD_SEEDS", 0)));
    isolated(name).unprivileged().deadline(deadline).run(|| compare_all(name));
}
