//! Events in words.

use std::fmt;
use std::io;

use io_uring::opcode;

use crate::trace::What;

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Turned { shard } => write!(f, "shard {shard} turns"),
            What::Began { shard, opcode, user_data, file, offset, length, paths } => {
                write!(f, "shard {shard} begins {user_data:#x}: ")?;
                match name(*opcode, *length) {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "opcode {opcode}")?,
                }
                if *opcode == opcode::AsyncCancel::CODE {
                    return write!(f, " of {offset:#x}");
                }
                if *file >= 0 {
                    write!(f, " of file {file}")?;
                }
                if moves_bytes(*opcode) {
                    write!(f, ", {length} bytes at {offset}")?;
                }
                paths.iter().try_for_each(|path| write!(f, " {path:?}"))
            }
            What::Completed { shard, user_data, result } => {
                write!(f, "shard {shard} completes {user_data:#x}: ")?;
                tell_result(f, *result)
            }
            What::WentOn { shard, user_data, result } => {
                write!(f, "shard {shard} goes on with {user_data:#x}: ")?;
                tell_result(f, *result)
            }
            What::NotEntered { shard, errno } => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "shard {shard} can't enter: {error}")
            }
            What::Struck { fault } => write!(f, "{fault:?} strikes"),
            What::Arrived { from, what, bytes } => {
                write!(f, "gets {what} of host {from}, {bytes} bytes")
            }
            What::Signalled { number } => write!(f, "gets signal {number}"),
            What::ThreadRan => f.write_str("a blocking closure runs"),
            What::Started => f.write_str("starts"),
            What::Ended => f.write_str("ends"),
            What::Killed => f.write_str("is killed"),
            What::LostPower => f.write_str("loses power"),
            What::Paused => f.write_str("stands still"),
            What::Resumed => f.write_str("goes on"),
        }
    }
}

fn tell_result(f: &mut fmt::Formatter<'_>, result: i32) -> fmt::Result {
    match result {
        result if result >= 0 => write!(f, "{result}"),
        result => write!(f, "{}", io::Error::from_raw_os_error(-result)),
    }
}

fn name(opcode: u8, length: u32) -> Option<&'static str> {
    Some(match opcode {
        opcode::Nop::CODE => "nop",
        opcode::Read::CODE => "read",
        opcode::ReadFixed::CODE => "fixed read",
        opcode::Readv::CODE => "vectored read",
        opcode::Write::CODE => "write",
        opcode::WriteFixed::CODE => "fixed write",
        opcode::Writev::CODE => "vectored write",
        opcode::Fsync::CODE if length == 1 => "fdatasync",
        opcode::Fsync::CODE => "fsync",
        opcode::Fallocate::CODE => "fallocate",
        opcode::Ftruncate::CODE => "ftruncate",
        opcode::Fadvise::CODE => "fadvise",
        opcode::OpenAt::CODE => "open",
        opcode::OpenAt2::CODE => "open beneath",
        opcode::Close::CODE => "close",
        opcode::Statx::CODE => "statx",
        opcode::RenameAt::CODE => "rename",
        opcode::UnlinkAt::CODE => "unlink",
        opcode::MkDirAt::CODE => "mkdir",
        opcode::LinkAt::CODE => "link",
        opcode::SymlinkAt::CODE => "symlink",
        opcode::AsyncCancel::CODE => "cancel",
        opcode::Timeout::CODE => "pause",
        opcode::PollAdd::CODE => "poll",
        opcode::Connect::CODE => "connect",
        opcode::Recv::CODE => "receive",
        opcode::Send::CODE => "send",
        opcode::SendZc::CODE => "zero-copy send",
        opcode::Shutdown::CODE => "shutdown",
        u8::MAX => "cold call",
        _ => return None,
    })
}

fn moves_bytes(opcode: u8) -> bool {
    let reads = [opcode::Read::CODE, opcode::ReadFixed::CODE, opcode::Readv::CODE];
    let writes = [opcode::Write::CODE, opcode::WriteFixed::CODE, opcode::Writev::CODE];
    reads.contains(&opcode) || writes.contains(&opcode)
}
