//! A client, which attaches an export and exchanges requests and answers over its connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use dst_session::deframer::{Deframer, Piece};
use dst_wire::{HEADER_LEN, Header, Hello, Kind, Op, SessionRef, VERSION, Welcome};

/// The keep-alive time, longer than any run, so that no keep-alives are needed. It is the target's
/// default maximum.
const KEEP_ALIVE_MS: u32 = 60_000;

/// The credits to ask for, more than any load needs. The welcome grants the actual number.
const CREDITS: u16 = 4096;

/// One session with one connection for I/O.
pub struct Client {
    /// The control connection, which carries only the goodbye.
    control: TcpStream,
    stream: TcpStream,
    deframer: Deframer,
    to_send: Vec<u8>,
    sent: usize,
    next_sequence: u64,
    /// The free slots.
    free: Vec<u16>,
    /// The number of blocks of the export, and their size.
    pub blocks: u64,
    pub block_size: u32,
}

impl Client {
    /// Opens a session and joins it with queue 1. Waits for the replies.
    pub fn attach(port: u16, export: &str, host: &str) -> io::Result<Client> {
        let (control, first) = join(port, &hello(export, host, None))?;
        let session = SessionRef { queue: 1, epoch: 1, ..first.session };
        let (stream, welcome) = join(port, &hello(export, host, Some(session)))?;
        stream.set_nonblocking(true)?;
        Ok(Client {
            control,
            stream,
            deframer: Deframer::new(),
            to_send: Vec::new(),
            sent: 0,
            next_sequence: 1,
            free: (0..welcome.credits).rev().collect(),
            blocks: welcome.device.num_blocks,
            block_size: welcome.device.block_size,
        })
    }

    /// Ends the session, so that the target need not remember it. Unanswered requests are lost.
    pub fn leave(&mut self) -> io::Result<()> {
        self.control.write_all(&Header::new(Kind::Goodbye).encode())
    }

    /// Returns the socket of the I/O connection.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Returns how many more requests may be outstanding.
    pub fn credits(&self) -> usize {
        self.free.len()
    }

    /// Queues a request with this data.
    ///
    /// # Panics
    /// If there is no credit.
    pub fn request(&mut self, op: Op, start: u64, count: u64, data: &[u8]) {
        let slot = self.free.pop().expect("there is a credit");
        let id = self.next_sequence << 16 | u64::from(slot);
        self.next_sequence += 1;
        let header = Header {
            code: op as u8,
            data_len: data.len() as u32,
            id,
            start,
            count,
            ..Header::new(Kind::Request)
        };
        self.to_send.extend_from_slice(&header.encode());
        self.to_send.extend_from_slice(data);
    }

    /// Makes one system call if there is something to send. Returns whether everything is sent.
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.sent < self.to_send.len() {
            match self.stream.write(&self.to_send[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if self.sent < self.to_send.len() {
            return Ok(false);
        }
        self.to_send.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Makes one system call. Returns how many answers began in what came.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the target closed a connection")),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let (mut at, mut answers) = (0, 0);
        while let Some(piece) = self.deframer.next(&buffer[..bytes], &mut at).map_err(io::Error::other)? {
            if let Piece::Header(header) = piece {
                match (header.kind, header.code) {
                    (Kind::Answer, 0) => {
                        self.free.push(header.id as u16);
                        answers += 1;
                    }
                    (Kind::Answer, code) => {
                        return Err(io::Error::other(format!("a request failed, status {code}")));
                    }
                    _ => {}
                }
            }
        }
        Ok(answers)
    }
}

fn hello(export: &str, host: &str, session: Option<SessionRef>) -> Hello {
    Hello {
        versions: (VERSION, VERSION),
        export: export.into(),
        host: host.into(),
        session,
        previous: None,
        claim: None,
        credits: CREDITS,
        digests: vec![0],
        ciphers: vec![0],
        keep_alive_ms: KEEP_ALIVE_MS,
        aborts: false,
    }
}

/// A connection that the target admitted.
fn join(port: u16, hello: &Hello) -> io::Result<(TcpStream, Welcome)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    let message = hello.encode();
    let header = Header { data_len: message.len() as u32, ..Header::new(Kind::Hello) };
    stream.write_all(&[&header.encode()[..], &message].concat())?;
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head)?;
    let header = Header::decode(&head).map_err(io::Error::other)?;
    let mut message = vec![0; header.data_len as usize];
    stream.read_exact(&mut message)?;
    if header.kind != Kind::Welcome {
        return Err(io::Error::other(format!("the target answered {:?}: it lets nobody in", header.kind)));
    }
    Ok((stream, Welcome::decode(&message).map_err(io::Error::other)?))
}
