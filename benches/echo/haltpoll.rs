//! How long an idle virtual CPU polls before it halts.

use std::fs;
use std::path::Path;

const KNOB: &str = "/sys/module/haltpoll/parameters/guest_halt_poll_ns";

/// Two CPUs of a virtual machine that wake each other pay 35 to 90 microseconds for each wake-up,
/// unless an idle one polls for a while before it halts: without that, an echo between two CPUs
/// measures the hypervisor. This makes them poll for 0.2 milliseconds, and sets back what was there
/// when it is dropped.
#[derive(Debug)]
pub struct Haltpoll(Option<String>);

impl Haltpoll {
    /// Says so where it can't be set.
    pub fn set() -> Haltpoll {
        let before = fs::read_to_string(KNOB);
        let set = before.and_then(|before| fs::write(KNOB, "200000").map(|()| before));
        match set {
            Ok(before) => Haltpoll(Some(before)),
            Err(error) if Path::new(KNOB).exists() => {
                eprintln!("idle CPUs halt at once, which latencies show: {KNOB}: {error}");
                Haltpoll(None)
            }
            Err(_) => Haltpoll(None),
        }
    }
}

impl Drop for Haltpoll {
    fn drop(&mut self) {
        if let Some(before) = &self.0
            && let Err(error) = fs::write(KNOB, before)
        {
            eprintln!("{KNOB} stays at 200000: {error}");
        }
    }
}
