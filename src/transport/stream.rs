//! A connection's bytes: in clear, or in records once the connection is secured.
//!
//! The user of a stream sees plain bytes in both cases. Securing a connection changes what the
//! socket carries and what is copied. Each side copies small pieces once, since they share a
//! record. Large pieces are not copied: they are encrypted from their source and decrypted to their
//! destination.

use dst_security::Secured;
use dst_wire::Cipher;
use spdk::iov::{Iov, IovMut};
use spdk::sock::Sock;

use crate::Broken;
use crate::records::{IncomingRecords, OutgoingRecords};

/// A connection's socket, with or without encryption.
pub struct Stream {
    sock: Sock,
    secured: Option<Box<RecordStreams>>,
}

/// Both directions of a secured connection.
struct RecordStreams {
    cipher: Cipher,
    outgoing: OutgoingRecords,
    incoming: IncomingRecords,
}

impl Stream {
    /// Creates a stream of bytes in clear.
    pub fn new(sock: Sock) -> Stream {
        Stream { sock, secured: None }
    }

    /// Switches both directions to records from the next byte on. Allocates their buffers.
    pub fn secure(&mut self, secured: Secured) {
        self.secured = Some(Box::new(RecordStreams {
            cipher: secured.cipher,
            outgoing: OutgoingRecords::new(secured.send),
            incoming: IncomingRecords::new(secured.receive),
        }));
    }

    /// Returns the socket, for adding it to a socket group.
    pub fn sock(&self) -> &Sock {
        &self.sock
    }

    /// Returns the cipher in use.
    pub fn cipher(&self) -> Cipher {
        self.secured.as_ref().map_or(Cipher::None, |records| records.cipher)
    }

    /// Returns how many encrypted bytes wait for the socket.
    pub fn unsent(&self) -> usize {
        self.secured.as_ref().map_or(0, |records| records.outgoing.unsent)
    }

    /// Sends bytes, and returns how many were taken; the caller need not keep those. 0 means that
    /// the socket accepts nothing now. An empty vector sends what was taken before.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn writev(&mut self, iov: &Iov<'_>) -> Result<usize, Broken> {
        match &mut self.secured {
            None if iov.is_empty() => Ok(0),
            None => Ok(self.sock.writev(iov).map_err(Broken::Socket)?.unwrap_or(0)),
            Some(records) => records.outgoing.writev(&self.sock, iov),
        }
    }

    /// Begins a turn, in which records are received with at most `calls` system calls.
    pub fn begin_turn(&mut self, calls: usize) {
        if let Some(records) = &mut self.secured {
            records.incoming.begin_turn(calls);
        }
    }

    /// Receives into the pieces of `iov`, in order, and returns the number of bytes: `None` if
    /// nothing is there, 0 if the peer has closed. If fewer bytes come than fit, no more are there.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn readv(&mut self, iov: &mut IovMut<'_>) -> Result<Option<usize>, Broken> {
        match &mut self.secured {
            None => self.sock.readv(iov).map_err(Broken::Socket),
            Some(records) => records.incoming.readv(&self.sock, iov),
        }
    }

    /// Receives into `buf`, otherwise like [`Stream::readv`].
    ///
    /// # Errors
    /// The connection has ended.
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

    /// Returns whether workers have received records, so that the caller must read again although
    /// the socket reports nothing.
    pub fn is_with_workers(&self) -> bool {
        self.secured.as_ref().is_some_and(|records| records.incoming.is_with_workers())
    }

    /// Returns whether the stream holds bytes that the socket will not report again.
    pub fn holds_bytes(&self) -> bool {
        self.secured.as_ref().is_some_and(|records| records.incoming.holds_bytes())
    }
}
