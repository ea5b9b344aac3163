//! Many connections: the same requests and replies as in `sockets`, spread over connections whose
//! readiness epoll reports.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::Timespec;

use crate::sockets::{Buffers, End, Job, announce, learn};

/// The maximum number of sockets that one call of epoll reports.
const EVENTS: usize = 1024;

/// All connections of one side.
struct Hub {
    ends: Vec<End>,
    watch: OwnedFd,
    events: Vec<epoll::Event>,
    buffers: Buffers,
}

impl Hub {
    fn new(ends: Vec<End>) -> io::Result<Hub> {
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, end) in ends.iter().enumerate() {
            epoll::add(&watch, &end.stream, EventData::new_u64(number as u64), EventFlags::IN)?;
        }
        Ok(Hub { ends, watch, events: Vec::with_capacity(EVENTS), buffers: Buffers::new() })
    }

    /// Polls the sockets once and calls `each` for every end that is ready, with the number of
    /// frames that arrived completely. Returns `None` if a peer has closed.
    fn turn(
        &mut self,
        mut each: impl FnMut(&mut [End], &Buffers, usize, usize) -> io::Result<()>,
    ) -> io::Result<Option<()>> {
        self.events.clear();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.watch, rustix::buffer::spare_capacity(&mut self.events), Some(&at_once))?;
        for event in &self.events {
            let number = event.data.u64() as usize;
            match self.ends[number].receive(&mut self.buffers) {
                Ok(Some(frames)) => each(&mut self.ends, &self.buffers, number, frames)?,
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(()))
    }
}

/// A connection needs at most two files, so raise the limit to its maximum.
fn raise_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// Serves this many clients until one of them disconnects.
pub fn serve(connections: usize) -> io::Result<()> {
    raise_limit()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    let ends = (0..connections).map(|_| learn(listener.accept()?.0)).collect::<io::Result<_>>()?;
    let mut hub = Hub::new(ends)?;
    let answer = |ends: &mut [End], buffers: &Buffers, number: usize, requests| {
        ends[number].to_send += requests;
        match ends[number].flush(buffers) {
            // A client that disconnects with outstanding replies causes this error.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Ok(())
            }
            done => done,
        }
    };
    while hub.turn(answer)?.is_some() {}
    Ok(())
}

/// Keeps `job.depth` requests outstanding over all connections. Each connection has its share; if
/// there are fewer requests than connections, the requests go to the connections in turn. Returns
/// the replies a second.
pub fn drive(job: &Job, connections: usize) -> io::Result<f64> {
    raise_limit()?;
    let connect = |_| {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, job.port))?;
        announce(stream, job)
    };
    let mut hub = Hub::new((0..connections).map(connect).collect::<io::Result<_>>()?)?;
    for number in 0..job.depth {
        hub.ends[number % connections].to_send += 1;
    }
    hub.ends.iter_mut().try_for_each(|end| end.flush(&hub.buffers))?;
    let mut next = (job.depth < connections).then_some(job.depth);
    let begun = Instant::now();
    let mut replies = 0;
    while begun.elapsed() < job.time {
        let counted = hub.turn(|ends, buffers, number, more| {
            replies += more;
            for _ in 0..more {
                let to = next.map_or(number, |next| next % connections);
                ends[to].to_send += 1;
                if let Some(next) = &mut next {
                    *next += 1;
                    ends[to].flush(buffers)?;
                }
            }
            ends[number].flush(buffers)
        })?;
        counted.ok_or(ErrorKind::UnexpectedEof)?;
    }
    Ok(replies as f64 / begun.elapsed().as_secs_f64())
}
