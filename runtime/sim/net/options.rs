//! The options of sockets: kept, and given back; a few of them matter.

use std::collections::BTreeMap;

use super::{Network, Refused, SocketId, State};

/// What a socket's buffer takes unless its option says otherwise, in bytes.
const BUFFER_BYTES: i32 = 64 << 10;

#[derive(Clone, Debug, Default)]
pub(super) struct Options(BTreeMap<(i32, i32), Vec<u8>>);

impl Options {
    fn number(&self, level: i32, name: i32) -> Option<i32> {
        let value = self.0.get(&(level, name))?;
        Some(i32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
    }

    pub(super) fn is_on(&self, level: i32, name: i32) -> bool {
        self.number(level, name).is_some_and(|number| number != 0)
    }

    /// Whether closing is to reset.
    pub(super) fn resets_at_close(&self) -> bool {
        let linger = self.0.get(&(libc::SOL_SOCKET, libc::SO_LINGER));
        linger.is_some_and(|linger| linger.len() == 8 && linger[0] != 0 && linger[4..] == [0; 4])
    }

    pub(super) fn buffer_bytes(&self, name: i32) -> usize {
        let bytes = self.number(libc::SOL_SOCKET, name).unwrap_or(BUFFER_BYTES);
        usize::try_from(bytes).unwrap_or(0).max(2048)
    }
}

impl Network {
    pub(crate) fn set_option(&mut self, id: SocketId, level: i32, name: i32, value: &[u8]) {
        let mut value = value.to_vec();
        if level == libc::SOL_SOCKET
            && [libc::SO_RCVBUF, libc::SO_SNDBUF].contains(&name)
            && let Ok(bytes) = <[u8; 4]>::try_from(&*value)
        {
            // Linux doubles what is asked for, and says so.
            value = i32::from_ne_bytes(bytes).saturating_mul(2).to_ne_bytes().to_vec();
        }
        self.socket(id).options.0.insert((level, name), value);
    }

    /// Writes an option's value, and says how long it is.
    pub(crate) fn option(
        &mut self,
        id: SocketId,
        level: i32,
        name: i32,
        value: &mut [u8],
    ) -> Result<usize, Refused> {
        let socket = self.socket(id);
        let known = match (level, name) {
            (libc::SOL_SOCKET, libc::SO_ERROR) => socket.error.take().unwrap_or(0),
            (libc::SOL_SOCKET, libc::SO_TYPE) if socket.kind.is_stream => libc::SOCK_STREAM,
            (libc::SOL_SOCKET, libc::SO_TYPE) => libc::SOCK_DGRAM,
            (libc::SOL_SOCKET, libc::SO_DOMAIN) => socket.kind.domain,
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => {
                matches!(socket.state, State::Listening { .. }).into()
            }
            (libc::SOL_SOCKET, libc::SO_RCVBUF | libc::SO_SNDBUF) => {
                socket.options.buffer_bytes(name) as i32
            }
            (libc::IPPROTO_IP, libc::IP_TTL) => socket.options.number(level, name).unwrap_or(64),
            _ => {
                let stored = socket.options.0.get(&(level, name)).cloned().unwrap_or_default();
                let count = value.len().min(stored.len().max(4));
                for (index, byte) in value[..count].iter_mut().enumerate() {
                    *byte = stored.get(index).copied().unwrap_or(0);
                }
                return Ok(count);
            }
        };
        let count = value.len().min(4);
        value[..count].copy_from_slice(&known.to_ne_bytes()[..count]);
        Ok(count)
    }
}
