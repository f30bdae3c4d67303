//! The limit: a loop written by hand on the `io-uring` crate. `unsafe`, because pushing an entry,
//! registering memory and looking at what the kernel wrote are.
//!
//! It takes the flags, the fixed file, the fixed buffers and the one `enter` a batch that
//! Ringhold's own ring takes, so that what lies between the two is the runtime alone.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::slice;

use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, opcode, squeue, types};

use crate::load::{Load, PAGE_BYTES, Share, Workload};
use crate::meter::{Meter, Sample};

pub fn run(load: &Load) -> io::Result<Sample> {
    match load.workload {
        Workload::Read => read(load),
        Workload::Spawn | Workload::Yield => crate::least::run(load),
        Workload::Echo => Err(load.is_served()),
    }
}

/// One page of the registered region, aligned as a page.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

fn read(load: &Load) -> io::Result<Sample> {
    let file = File::open(&load.file)?;
    let entries = (load.tasks as u32).next_power_of_two();
    let mut ring = set_up(entries)?;
    // Leaked: the process lives for this one measurement, and so no unwinding can free what the
    // kernel may write.
    let pages: &'static mut [Page] = vec![Page([0; PAGE_BYTES]); load.tasks].leak();
    let region = libc::iovec {
        iov_base: pages.as_mut_ptr().cast(),
        iov_len: load.tasks * size_of::<Page>(),
    };
    let first_page = pages.as_mut_ptr();
    // SAFETY: the region is leaked, so it stays mapped for as long as any ring's table can reach it
    // (S4), at an address that never changes (S2).
    unsafe { ring.submitter().register_buffers(&[region])? };
    ring.submitter().register_files(&[file.as_raw_fd()])?;

    let (mut submitter, submissions, completions) = ring.split();
    submitter.register_ring_fd()?;
    // The index is remembered by this very `Submitter`, which every later `enter` goes through. A
    // second call is refused only by one that remembers it: proof that the registered descriptor is
    // in force.
    let again = submitter.register_ring_fd().err().and_then(|error| error.raw_os_error());
    assert_eq!(again, Some(libc::EEXIST), "the registered ring descriptor isn't in force");

    let mut turning = Turning { submitter, submissions, completions, first_page };
    turning.turn_until_done(&mut load.warm_up_shares())?;
    let latencies = load.latencies();
    let mut shares = load.measured_shares(latencies.as_ref());
    let meter = Meter::start();
    turning.turn_until_done(&mut shares)?;
    Ok(meter.stop(load.ops, latencies.as_deref()))
}

/// A ring with the flags of Ringhold's own; NO_SQARRAY is dropped where the kernel doesn't know it
/// (before 6.6).
pub fn set_up(entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(entries * 2);
    match builder.clone().setup_no_sqarray().build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(entries),
        built => built,
    }
}

struct Turning<'ring> {
    submitter: Submitter<'ring>,
    submissions: SubmissionQueue<'ring>,
    completions: CompletionQueue<'ring>,
    first_page: *mut Page,
}

impl Turning<'_> {
    /// Keeps one read in flight for each share, until all are done.
    fn turn_until_done(&mut self, shares: &mut [Share]) -> io::Result<()> {
        let mut in_flight = 0;
        for (index, share) in shares.iter_mut().enumerate() {
            if let Some(offset) = share.next_offset() {
                self.push(index, offset);
                in_flight += 1;
            }
        }
        while in_flight > 0 {
            self.submissions.sync();
            match self.submitter.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // Both ways: what the kernel took makes room here, what it completed is there to be
            // seen.
            self.submissions.sync();
            self.completions.sync();
            while let Some(completion) = self.completions.next() {
                let (index, offset) = unpack(completion.user_data());
                let brought = completion.result();
                assert!(brought >= 0, "{}", io::Error::from_raw_os_error(-brought));
                // SAFETY: the entry that had this page was seen to complete, its final CQE, and the
                // next is not pushed yet: the page is ours (S1). It was zeroed at the start, so all
                // of it is initialised (S9).
                let page = unsafe { slice::from_raw_parts(self.page(index), brought as usize) };
                shares[index].check(page, offset);
                match shares[index].next_offset() {
                    Some(offset) => self.push(index, offset),
                    None => in_flight -= 1,
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn push(&mut self, index: usize, offset: u64) {
        let entry: squeue::Entry =
            opcode::ReadFixed::new(types::Fixed(0), self.page(index), PAGE_BYTES as u32, 0)
                .offset(offset)
                .build()
                .user_data(pack(index, offset));
        // SAFETY: the page is part of the leaked region (S2), belongs to this index alone (S5), and
        // is not looked at before the completion that carries this index (S1); this thread made the
        // ring (S8).
        unsafe { self.submissions.push(&entry) }.expect("as many entries as shares");
    }

    #[inline]
    fn page(&self, index: usize) -> *mut u8 {
        self.first_page.wrapping_add(index).cast()
    }
}

/// The index in the low 12 bits, which a page's offset leaves free.
#[inline]
fn pack(index: usize, offset: u64) -> u64 {
    debug_assert!(index < PAGE_BYTES && offset.is_multiple_of(PAGE_BYTES as u64));
    offset | index as u64
}

#[inline]
fn unpack(user_data: u64) -> (usize, u64) {
    let index = user_data % PAGE_BYTES as u64;
    (index as usize, user_data - index)
}
