//! The server of each contender: it accepts as many connections as there will be, and echoes.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::contender::Contender;
use crate::load::Load;

/// Serves until the process is killed.
pub fn serve(contender: Contender, load: &Load) -> io::Result<()> {
    if load.messages.is_some() {
        return serve_short(contender, load);
    }
    match contender {
        Contender::Raw => super::raw::serve(load.tasks),
        Contender::Ringhold => super::ringhold::serve_by_polls(load.tasks),
        Contender::RingholdOwned => super::ringhold::serve_owned(load.tasks),
        #[cfg(feature = "peers")]
        Contender::Tokio => super::tokio::serve(load.tasks),
        #[cfg(feature = "peers")]
        Contender::Monoio => super::monoio::serve(load.tasks),
        #[cfg(feature = "peers")]
        Contender::Compio => super::compio::serve(load.tasks),
        #[cfg(feature = "peers")]
        Contender::TokioUring => super::tokio_uring::serve(load.tasks),
        other => Err(io::Error::other(format!("{other} doesn't echo"))),
    }
}

/// As [`serve`], for connections that end and are followed by others.
fn serve_short(contender: Contender, load: &Load) -> io::Result<()> {
    match contender {
        Contender::Raw => super::raw_short::serve(load.tasks, true),
        Contender::RawPolls => super::raw_short::serve(load.tasks, false),
        Contender::Ringhold => super::ringhold::serve_short_by_polls(),
        Contender::RingholdOwned => super::ringhold::serve_short_owned(),
        #[cfg(feature = "peers")]
        Contender::Tokio => super::tokio::serve_short(),
        #[cfg(feature = "peers")]
        Contender::Monoio => super::monoio::serve_short(load.tasks),
        #[cfg(feature = "peers")]
        Contender::Compio => super::compio::serve_short(load.tasks),
        other => Err(io::Error::other(format!("{other} doesn't accept here"))),
    }
}

/// Tells the parent where the server is.
pub fn tell(address: SocketAddr) -> io::Result<()> {
    println!("{address}");
    io::stdout().flush()
}

/// A listener on every address of the machine's own, since connections that follow one another use
/// up the ports of one.
pub fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    tell(listener.local_addr()?)?;
    Ok(listener)
}

/// All connections there will be, for contenders that can take them over: accepting is not what is
/// measured.
pub fn accept(connections: usize) -> io::Result<Vec<TcpStream>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    tell(listener.local_addr()?)?;
    let accept = |_| {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    (0..connections).map(accept).collect()
}
