//! Linux with other answers to some questions, for tests that stand between it and a runtime.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use ringhold_runtime::{
    Donor, Kernel, KernelConfig, OpenFiles, Processes, SignalEvents, Sockets, StartError, System,
};

/// What a test changes of Linux; all else is passed on.
pub trait Altered: Send + Sync + 'static {
    fn linux(&self) -> &Arc<dyn System>;

    fn boot(&self, config: &KernelConfig) -> Result<Box<dyn Kernel>, StartError> {
        self.linux().boot(config)
    }

    fn donor(&self) -> io::Result<Box<dyn Donor>> {
        self.linux().donor()
    }

    fn seed(&self) -> u64 {
        self.linux().seed()
    }
}

/// Linux with what the test changes of it. It answers nothing at once: all goes to its kernel.
pub struct AlteredSystem<A>(pub A);

impl<A: Altered> System for AlteredSystem<A> {
    fn boot(&self, config: &KernelConfig) -> Result<Box<dyn Kernel>, StartError> {
        self.0.boot(config)
    }

    fn donor(&self) -> io::Result<Box<dyn Donor>> {
        self.0.donor()
    }

    fn close(&self, descriptor: RawFd) {
        self.0.linux().close(descriptor);
    }

    fn now(&self) -> Instant {
        self.0.linux().now()
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        self.0.linux().locked_memory_limit()
    }

    fn open_files_limit(&self) -> u64 {
        self.0.linux().open_files_limit()
    }

    fn seed(&self) -> u64 {
        self.0.seed()
    }

    fn pin_this_thread(&self, index: usize) -> io::Result<()> {
        self.0.linux().pin_this_thread(index)
    }

    fn open_files(&self) -> &dyn OpenFiles {
        self.0.linux().open_files()
    }

    fn sockets(&self) -> &dyn Sockets {
        self.0.linux().sockets()
    }

    fn on_signal(&self, number: i32) -> io::Result<(Box<dyn SignalEvents>, RawFd)> {
        self.0.linux().on_signal(number)
    }

    fn processes(&self) -> io::Result<&dyn Processes> {
        self.0.linux().processes()
    }
}
