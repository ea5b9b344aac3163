//! The kernel's TCP over loopback: the same exchange as `ring`'s, with epoll.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Mover;
use crate::ring::Work;

/// The maximum number of sockets that are served in a turn, as in `ring`.
const EVENTS: usize = 32;

/// One side of all connections.
struct Side {
    ends: Vec<TcpStream>,
    watch: OwnedFd,
    events: Vec<epoll::Event>,
    /// The bytes of the message under way that each socket has read.
    progress: Vec<usize>,
    /// The bytes that each socket has yet to write.
    owed: Vec<usize>,
    /// Whether epoll watches for room to write.
    is_blocked: Vec<bool>,
}

impl Side {
    fn new(ends: Vec<TcpStream>) -> std::io::Result<Side> {
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, end) in ends.iter().enumerate() {
            end.set_nonblocking(true)?;
            end.set_nodelay(true)?;
            epoll::add(&watch, end, EventData::new_u64(number as u64), EventFlags::IN)?;
        }
        let (progress, owed, is_blocked) =
            (vec![0; ends.len()], vec![0; ends.len()], vec![false; ends.len()]);
        Ok(Side { ends, watch, events: Vec::with_capacity(EVENTS), progress, owed, is_blocked })
    }

    /// Writes what is owed, as far as the kernel takes it.
    fn write(&mut self, number: usize, room: &[u8]) -> std::io::Result<()> {
        while self.owed[number] > 0 {
            let len = self.owed[number].min(room.len());
            match self.ends[number].write(&room[..len]) {
                Ok(count) => self.owed[number] -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let is_blocked = self.owed[number] > 0;
        if is_blocked != self.is_blocked[number] {
            self.is_blocked[number] = is_blocked;
            let flags = if is_blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.watch, &self.ends[number], EventData::new_u64(number as u64), flags)?;
        }
        Ok(())
    }
}

/// The kernel's TCP over loopback.
pub struct Kernel {
    work: Work,
    sides: [Side; 2],
    answers: usize,
    room: Vec<u8>,
}

impl Kernel {
    /// Returns connections. The first requests are under way.
    pub fn new(work: Work) -> std::io::Result<Kernel> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..work.connections {
            clients.push(TcpStream::connect(listener.local_addr()?)?);
            servers.push(listener.accept()?.0);
        }
        let sides = [Side::new(clients)?, Side::new(servers)?];
        let mut kernel = Kernel { work, sides, answers: 0, room: vec![0; 128 << 10] };
        for number in 0..work.connections {
            kernel.sides[0].owed[number] = work.depth * work.request;
            kernel.sides[0].write(number, &kernel.room)?;
        }
        Ok(kernel)
    }

    fn serve(&mut self, which: usize) -> std::io::Result<()> {
        let Work { request, answer, .. } = self.work;
        let (received, sent) = [(answer, request), (request, answer)][which];
        let side = &mut self.sides[which];
        side.events.clear();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&side.watch, rustix::buffer::spare_capacity(&mut side.events), Some(&at_once))?;
        for index in 0..side.events.len() {
            let number = side.events[index].data.u64() as usize;
            match side.ends[number].read(&mut self.room) {
                Ok(count) => side.progress[number] += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let messages = side.progress[number] / received;
            side.progress[number] %= received;
            side.owed[number] += messages * sent;
            self.answers += if which == 0 { messages } else { 0 };
            side.write(number, &self.room)?;
        }
        Ok(())
    }
}

impl Mover for Kernel {
    fn run(&mut self, answers: usize) {
        let until = self.answers + answers;
        while self.answers < until {
            for side in [1, 0] {
                self.serve(side).expect("loopback loses no connection");
            }
        }
    }
}
