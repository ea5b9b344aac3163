//! One connection, two ends: requests and replies of fixed lengths, as many at a time as there are.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of a receive buffer, as DST's own.
const RECEIVE_BUFFER: usize = 256 << 10;

/// Most bytes in one send. Where data is large, more at once is slower: the receiver begins later.
const SEND_BUFFER: usize = 512 << 10;

/// The clock is read once in so many turns; it costs as much as a small message.
const TURNS_A_CLOCK: u64 = 64;

/// Counts of frames of one length, on a socket whose bytes nobody looks at.
struct Frames {
    len: usize,
    /// Bytes of the frame that is coming in or going out already.
    part: usize,
}

impl Frames {
    /// Frames that are complete by `bytes` more.
    fn advance(&mut self, bytes: usize) -> usize {
        let all = self.part + bytes;
        self.part = all % self.len;
        all / self.len
    }
}

/// One end of the connection: takes frames of one length, sends frames of another.
pub struct End {
    pub stream: TcpStream,
    incoming: Frames,
    outgoing: Frames,
    /// Frames that are to be sent, the one that is sent in part included.
    pub to_send: usize,
}

/// What all ends of a thread receive into and send from.
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

    /// One system call. Gives the frames that came in completely; `None` when the peer has gone.
    pub fn receive(&mut self, buffers: &mut Buffers) -> io::Result<Option<usize>> {
        match self.stream.read(&mut buffers.receive) {
            Ok(0) => Ok(None),
            Ok(bytes) => Ok(Some(self.incoming.advance(bytes))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    /// One system call, if there is something to send.
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

/// The serving end of a connection. Its first eight bytes say how long requests and replies are.
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

/// Answers a client until it goes.
pub fn serve() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    let mut end = learn(listener.accept()?.0)?;
    match answer(&mut end) {
        // How a client goes that had replies to come.
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

/// What `drive` is to do.
pub struct Job {
    pub port: u16,
    pub request: usize,
    pub reply: usize,
    pub depth: usize,
    pub time: Duration,
}

/// Keeps `depth` requests outstanding for `time`. Gives the replies a second.
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
