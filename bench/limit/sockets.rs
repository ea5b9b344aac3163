//! The two ends of one connection: requests and replies of fixed lengths, as many at a time as are
//! ready.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The size of a receive buffer in bytes, the same as DST's.
const RECEIVE_BUFFER: usize = 256 << 10;

/// The maximum size of one send in bytes. With large data, a larger send is slower, because the
/// receiver begins later.
const SEND_BUFFER: usize = 512 << 10;

/// The clock is read only once in this many turns, since reading it costs as much as a small
/// message.
const TURNS_A_CLOCK: u64 = 64;

/// Counts frames of one length on a socket whose bytes are not examined.
struct Frames {
    len: usize,
    /// The number of bytes of the current frame that were already transferred.
    part: usize,
}

impl Frames {
    /// Returns how many frames are completed by `bytes` more bytes.
    fn advance(&mut self, bytes: usize) -> usize {
        let all = self.part + bytes;
        self.part = all % self.len;
        all / self.len
    }
}

/// One end of a connection, which receives frames of one length and sends frames of another.
pub struct End {
    pub stream: TcpStream,
    incoming: Frames,
    outgoing: Frames,
    /// The number of frames to send, including one that is partly sent.
    pub to_send: usize,
}

/// The buffers that all ends of a thread share.
pub struct Buffers {
    receive: Vec<u8>,
    send: Vec<u8>,
}

impl Buffers {
    pub fn new() -> Buffers {
        Buffers { receive: vec![0; RECEIVE_BUFFER], send: vec![0x5a; SEND_BUFFER] }
    }
}

impl End {
    fn new(stream: TcpStream, incoming: usize, outgoing: usize) -> io::Result<End> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(End {
            stream,
            incoming: Frames { len: incoming, part: 0 },
            outgoing: Frames { len: outgoing, part: 0 },
            to_send: 0,
        })
    }

    /// Makes one system call. Returns how many frames arrived completely, or `None` if the peer has
    /// closed.
    pub fn receive(&mut self, buffers: &mut Buffers) -> io::Result<Option<usize>> {
        match self.stream.read(&mut buffers.receive) {
            Ok(0) => Ok(None),
            Ok(bytes) => Ok(Some(self.incoming.advance(bytes))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    /// Makes one system call if there is something to send.
    pub fn flush(&mut self, buffers: &Buffers) -> io::Result<()> {
        let left = self.to_send * self.outgoing.len - self.outgoing.part;
        if left == 0 {
            return Ok(());
        }
        match self.stream.write(&buffers.send[..left.min(SEND_BUFFER)]) {
            Ok(bytes) => {
                self.to_send -= self.outgoing.advance(bytes);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The serving end of a connection. The first eight bytes received are the lengths of requests and
/// replies.
pub fn learn(mut stream: TcpStream) -> io::Result<End> {
    let mut lengths = [[0; 4]; 2];
    for length in &mut lengths {
        stream.read_exact(length)?;
    }
    let [request, reply] = lengths.map(|bytes| u32::from_le_bytes(bytes) as usize);
    if request == 0 || reply == 0 {
        return Err(io::Error::other("a request or reply of no bytes"));
    }
    End::new(stream, request, reply)
}

/// The driving end of a connection.
pub fn announce(mut stream: TcpStream, job: &Job) -> io::Result<End> {
    for length in [job.request, job.reply] {
        stream.write_all(&(length as u32).to_le_bytes())?;
    }
    End::new(stream, job.reply, job.request)
}

/// Serves a client until it disconnects.
pub fn serve() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    let mut end = learn(listener.accept()?.0)?;
    match answer(&mut end) {
        // A client that disconnects with outstanding replies causes this error.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(()),
        done => done,
    }
}

fn answer(end: &mut End) -> io::Result<()> {
    let mut buffers = Buffers::new();
    while let Some(requests) = end.receive(&mut buffers)? {
        end.to_send += requests;
        end.flush(&buffers)?;
    }
    Ok(())
}

/// The job of `drive`.
pub struct Job {
    pub port: u16,
    pub request: usize,
    pub reply: usize,
    pub depth: usize,
    pub time: Duration,
}

/// Keeps `depth` requests outstanding for `time`. Returns the replies a second.
pub fn drive(job: &Job) -> io::Result<f64> {
    let mut end = announce(TcpStream::connect((Ipv4Addr::LOCALHOST, job.port))?, job)?;
    end.to_send = job.depth;
    let begun = Instant::now();
    let mut replies = 0;
    let mut buffers = Buffers::new();
    for turn in 1u64.. {
        end.flush(&buffers)?;
        let Some(more) = end.receive(&mut buffers)? else { return Err(ErrorKind::UnexpectedEof.into()) };
        replies += more;
        end.to_send += more;
        if turn.is_multiple_of(TURNS_A_CLOCK) && begun.elapsed() >= job.time {
            break;
        }
    }
    Ok(replies as f64 / begun.elapsed().as_secs_f64())
}
