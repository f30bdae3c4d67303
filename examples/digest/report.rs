//! What is counted and printed: lines on standard output; complaints, warnings and the summary on
//! standard error.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, LineWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar};

use crate::{lines, progress};

/// What has been done so far, and where it is printed.
pub struct Report {
    /// Files found.
    pub found: AtomicU64,
    /// Files read to their end.
    pub files: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
    /// Lines of a list that are not well formed.
    pub malformed: AtomicU64,
    unreadable: AtomicU64,
    mismatched: AtomicU64,
    is_list_useless: AtomicBool,
    is_checking: bool,
    bar: Option<ProgressBar>,
    output: Mutex<Box<dyn Write + Send>>,
    is_output_terminal: bool,
}

impl Report {
    /// Nothing done yet; the bar is there if standard error is a terminal.
    pub fn new(is_checking: bool) -> Report {
        let is_output_terminal = io::stdout().is_terminal();
        // Workers write for themselves: whoever reads our output slowly slows them down, as it
        // should.
        let output: Box<dyn Write + Send> = match is_output_terminal {
            true => Box::new(LineWriter::new(io::stdout())),
            false => Box::new(BufWriter::with_capacity(64 << 10, io::stdout())),
        };
        Report {
            found: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            mismatched: AtomicU64::new(0),
            is_list_useless: AtomicBool::new(false),
            is_checking,
            bar: progress::bar(),
            output: Mutex::new(output),
            is_output_terminal,
        }
    }

    /// The bar, if there is one.
    pub fn bar(&self) -> Option<&ProgressBar> {
        self.bar.as_ref()
    }

    /// Prints a line, which has its newline.
    pub fn line(&self, line: &[u8]) -> io::Result<()> {
        let write = || self.output.lock().expect("no writer panics").write_all(line);
        let written = match &self.bar {
            Some(bar) if self.is_output_terminal => bar.suspend(write),
            _ => write(),
        };
        written.map_err(of_output)
    }

    /// Prints whether a file of a list is what it should be.
    pub fn verdict(&self, path: &Path, is_match: bool) -> io::Result<()> {
        if !is_match {
            self.mismatched.fetch_add(1, Ordering::Relaxed);
        }
        self.line(&lines::verdict(path, if is_match { "OK" } else { "FAILED" }))
    }

    /// Reports what could not be read, and was skipped.
    pub fn unreadable(&self, path: &Path, error: &io::Error) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        self.complain(format_args!("{}: {error}", path.display()));
    }

    /// Reports a list that could not be read to its end, or has not a single line of use.
    pub fn useless_list(&self, list: &Path, why: &dyn fmt::Display) {
        self.is_list_useless.store(true, Ordering::Relaxed);
        self.complain(format_args!("{}: {why}", list.display()));
    }

    fn complain(&self, what: fmt::Arguments<'_>) {
        match &self.bar {
            Some(bar) => bar.suspend(|| complain(what)),
            None => complain(what),
        }
    }

    /// Prints warnings and the summary, and tells whether everything was read and matched.
    pub fn finish(&self, elapsed: Duration) -> io::Result<bool> {
        self.output.lock().expect("no writer panics").flush().map_err(of_output)?;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (unreadable, mismatched) = (count(&self.unreadable), count(&self.mismatched));
        let is_list_useless = self.is_list_useless.load(Ordering::Relaxed);
        if self.is_checking && !is_list_useless {
            warn(count(&self.malformed), "line is", "lines are", "improperly formatted");
            warn(unreadable, "listed file", "listed files", "could not be read");
            warn(mismatched, "computed checksum", "computed checksums", "did NOT match");
        }
        let (files, bytes) = (count(&self.files), count(&self.bytes));
        let rate = bytes as f64 / elapsed.as_secs_f64().max(1e-9);
        complain(format_args!(
            "{files} files, {} ({bytes} bytes) in {:.2} s, {}/s, {unreadable} not read",
            HumanBytes(bytes),
            elapsed.as_secs_f64(),
            HumanBytes(rate as u64),
        ));
        Ok(unreadable == 0 && mismatched == 0 && !is_list_useless)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { found, files, bytes, .. } = self;
        f.debug_struct("Report")
            .field("found", found)
            .field("files", files)
            .field("bytes", bytes)
            .finish_non_exhaustive()
    }
}

/// Says whose error it is, since nobody asks for the output by name.
fn of_output(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("standard output: {error}"))
}

fn warn(count: u64, one: &str, many: &str, what: &str) {
    match count {
        0 => {}
        1 => complain(format_args!("WARNING: 1 {one} {what}")),
        _ => complain(format_args!("WARNING: {count} {many} {what}")),
    }
}

/// Prints a line on standard error. That this fails is nobody's concern.
pub fn complain(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "digest: {what}");
}
