//! A connection's bytes: as they are, or, once it is secured, in records.
//!
//! Whoever uses it sees bytes in both cases. Securing a connection changes what the socket carries, and where
//! copies are made: of small pieces, which travel together in one record, one on each side; of large ones none, they are
//! encrypted from where they are and decrypted to where they belong.

use dst_security::Secured;
use dst_wire::Cipher;
use spdk::iov::{Iov, IovMut};
use spdk::sock::Sock;

use crate::Broken;
use crate::records::{Incoming, Outgoing};

/// A connection's socket.
pub struct Stream {
    sock: Sock,
    secured: Option<Box<Records>>,
}

/// Both directions of a secured connection.
struct Records {
    cipher: Cipher,
    outgoing: Outgoing,
    incoming: Incoming,
}

impl Stream {
    /// A socket whose bytes are what they are.
    pub fn new(sock: Sock) -> Stream {
        Stream { sock, secured: None }
    }

    /// From the next byte on, in both directions, there are records. Allocates their buffers.
    pub fn secure(&mut self, secured: Secured) {
        self.secured = Some(Box::new(Records {
            cipher: secured.cipher,
            outgoing: Outgoing::new(secured.send),
            incoming: Incoming::new(secured.receive),
        }));
    }

    /// To be put among others that are looked at together.
    pub fn sock(&self) -> &Sock {
        &self.sock
    }

    /// How it is secured.
    pub fn cipher(&self) -> Cipher {
        self.secured.as_ref().map_or(Cipher::None, |records| records.cipher)
    }

    /// Bytes on the wire's side that were taken and wait for the socket.
    pub fn unsent(&self) -> usize {
        self.secured.as_ref().map_or(0, |records| records.outgoing.unsent)
    }

    /// Sends; gives how many bytes were taken, which need not be kept any more. 0: the socket takes nothing now.
    /// An empty list sends what was taken before.
    ///
    /// # Errors
    /// The connection is over.
    pub fn writev(&mut self, iov: &Iov<'_>) -> Result<usize, Broken> {
        match &mut self.secured {
            None if iov.is_empty() => Ok(0),
            None => Ok(self.sock.writev(iov).map_err(Broken::Socket)?.unwrap_or(0)),
            Some(records) => records.outgoing.writev(&self.sock, iov),
        }
    }

    /// Begins a turn, in which records are received with so many system calls at most.
    pub fn begin_turn(&mut self, calls: usize) {
        if let Some(records) = &mut self.secured {
            records.incoming.begin_turn(calls);
        }
    }

    /// Receives into the pieces of `iov`, in their order. `None`: nothing is there; 0: the peer has closed.
    /// Fewer bytes than there is room for: that was all.
    ///
    /// # Errors
    /// The connection is over.
    pub fn readv(&mut self, iov: &mut IovMut<'_>) -> Result<Option<usize>, Broken> {
        match &mut self.secured {
            None => self.sock.readv(iov).map_err(Broken::Socket),
            Some(records) => records.incoming.readv(&self.sock, iov),
        }
    }

    /// Receives into `buf`; otherwise as [`Stream::readv`].
    ///
    /// # Errors
    /// The connection is over.
    pub fn recv(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Broken> {
        match &mut self.secured {
            None => self.sock.recv(buf).map_err(Broken::Socket),
            Some(records) => {
                let mut iov = IovMut::new();
                iov.push(buf);
                records.incoming.readv(&self.sock, &mut iov)
            }
        }
    }

    /// Whether workers have some of what came: to be looked at again although the socket tells nothing.
    pub fn is_away(&self) -> bool {
        self.secured.as_ref().is_some_and(|records| records.incoming.is_away())
    }

    /// Whether bytes are there that the socket will not tell of any more.
    pub fn holds_bytes(&self) -> bool {
        self.secured.as_ref().is_some_and(|records| records.incoming.holds_bytes())
    }
}
