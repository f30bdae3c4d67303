//! What a log was given and what it said, against which a crash test holds what it has.

use std::collections::{BTreeMap, BTreeSet};

use super::log::{Checkpoint, Recovery};

/// What is known of one log, over all of its crashes.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every record that was given to the log.
    attempted: BTreeSet<Vec<u8>>,
    /// The records that must be there, by number: those that were acknowledged, and those that a
    /// log had when it was opened.
    known: BTreeMap<u64, Vec<u8>>,
    /// The states that checkpoints were attempted with, and the number that one has at least.
    states: BTreeSet<(u64, Vec<u8>)>,
    checkpointed: u64,
    /// How many records each writer has made.
    made: BTreeMap<u32, u32>,
    /// The disk may damage what was acknowledged: it may be gone, but is never anything else.
    may_be_damaged: bool,
}

impl Ledger {
    pub fn new(may_be_damaged: bool) -> Ledger {
        Ledger { may_be_damaged, ..Ledger::default() }
    }

    /// A record that was never before: its writer, its number there, and bytes.
    pub fn attempt(&mut self, writer: u32, bytes: &[u8]) -> Vec<u8> {
        let made = self.made.entry(writer).or_default();
        *made += 1;
        let record = [&writer.to_le_bytes()[..], &made.to_le_bytes()[..], bytes].concat();
        self.attempted.insert(record.clone());
        record
    }

    pub fn acknowledge(&mut self, number: u64, record: Vec<u8>) -> Result<(), String> {
        match self.known.insert(number, record) {
            None => Ok(()),
            Some(_) => Err(format!("number {number} was given to two records")),
        }
    }

    pub fn attempt_checkpoint(&mut self, next: u64, state: Vec<u8>) {
        self.states.insert((next, state));
    }

    pub fn acknowledge_checkpoint(&mut self, next: u64) {
        self.checkpointed = self.checkpointed.max(next);
    }

    /// A log was opened, and had this.
    pub fn recovered(
        &mut self,
        recovery: &Recovery,
        read: Vec<(u64, Vec<u8>)>,
    ) -> Result<(), String> {
        let begin = self.check_checkpoint(recovery.checkpoint.as_ref())?;
        if !read.iter().map(|(number, _)| *number).eq(begin..recovery.next) {
            return Err(format!("the records are not those from {begin} to {}", recovery.next));
        }
        if let Some((last, _)) = self.known.last_key_value()
            && *last >= recovery.next
        {
            // The last frame may be the damaged one; an earlier life may have cut it off.
            if !self.may_be_damaged {
                let next = recovery.next;
                return Err(format!("{last} was acknowledged, and the log ends before {next}"));
            }
            self.known.split_off(&recovery.next);
        }
        for (number, record) in read {
            if !self.attempted.contains(&record) {
                return Err(format!("record {number} was never appended: {record:?}"));
            }
            if self.known.get(&number).is_some_and(|known| *known != record) {
                return Err(format!("record {number} is another one than before"));
            }
            self.known.insert(number, record);
        }
        self.check_order()
    }

    fn check_checkpoint(&self, checkpoint: Option<&Checkpoint>) -> Result<u64, String> {
        let begin = checkpoint.map_or(1, |checkpoint| checkpoint.next);
        if begin < self.checkpointed {
            let acknowledged = self.checkpointed;
            return Err(format!("checkpoint {acknowledged} was acknowledged, and is {begin}"));
        }
        match checkpoint {
            Some(Checkpoint { next, state }) if !self.states.contains(&(*next, state.clone())) => {
                Err(format!("checkpoint {next} has a state that it never was given"))
            }
            _ => Ok(begin),
        }
    }

    /// No record is there twice, and those of each writer are in its order.
    fn check_order(&self) -> Result<(), String> {
        let mut last = BTreeMap::new();
        for (number, record) in &self.known {
            let word =
                |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte: usize| record[at + byte]));
            let (writer, made) = (word(0), word(4));
            if last.insert(writer, made).is_some_and(|before| before >= made) {
                return Err(format!(
                    "record {number} of writer {writer} is there twice or too late"
                ));
            }
        }
        Ok(())
    }
}
