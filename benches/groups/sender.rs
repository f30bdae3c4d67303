//! Where the reads come from: a thread on another CPU, which sends each at its time whether or not
//! those before it are done, so that nothing waits unseen.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::groups::Trial;
use crate::groups::watch::{Disturbed, Watch};
use crate::rounds::pin_to;

/// The bytes of a request: its number, and its time in nanoseconds since the beginning.
pub const REQUEST_BYTES: usize = 16;

/// Sends the trial's requests from a thread of its own, beginning now. It tells when its CPU was
/// away.
pub fn start(
    trial: &Trial,
    mut writer: io::PipeWriter,
    begin: Instant,
) -> io::Result<thread::JoinHandle<io::Result<Disturbed>>> {
    let (cpu, requests, mean) = (trial.driver, trial.requests(), trial.mean_gap());
    thread::Builder::new().name("sender".to_owned()).spawn(move || {
        pin_to(cpu)?;
        let mut gaps = Gaps::new(mean);
        let watch = Watch::new(begin);
        let mut at = watch.look() + Duration::from_millis(5);
        for number in 0..requests {
            at += gaps.next();
            watch.spin(at.saturating_sub(watch.look()));
            let mut request = [0; REQUEST_BYTES];
            request[..8].copy_from_slice(&number.to_le_bytes());
            request[8..].copy_from_slice(&(at.as_nanos() as u64).to_le_bytes());
            writer.write_all(&request)?;
        }
        Ok(watch.disturbed())
    })
}

/// Pauses between requests that know nothing of each other: exponentially distributed.
struct Gaps {
    mean: Duration,
    random: u64,
}

impl Gaps {
    fn new(mean: Duration) -> Gaps {
        Gaps { mean, random: 0x5249_4e47_484f_4c44 }
    }

    fn next(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // Above 0 and at most 1.
        let uniform = ((self.random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        self.mean.mul_f64(-uniform.ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_are_long_as_often_as_exponential_ones() {
        let mut gaps = Gaps::new(Duration::from_micros(100));
        let pauses: Vec<Duration> = (0..100_000).map(|_| gaps.next()).collect();
        let mean = pauses.iter().sum::<Duration>() / 100_000;
        assert!((98..=102).contains(&mean.as_micros()), "{mean:?}");
        // One in e^3 is longer than three times the mean: 4979 of them.
        let long = pauses.iter().filter(|pause| pause.as_micros() >= 300).count();
        assert!((4800..=5200).contains(&long), "{long}");
    }
}
