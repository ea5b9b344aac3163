//! Watches the frames that pass through the simulated network: corrupts some, and counts Requests
//! against credits.
//!
//! Only the layout that docs/protocol.md promises for all versions is read: enough to corrupt
//! headers and data that has a digest, and to leave alone data that has none.

use std::cell::RefCell;
use std::collections::BTreeMap;

use world::net::{self, Tap};

const HEADER: usize = 48;
const WELCOME: u8 = 2;
const REQUEST: u8 = 4;
const ANSWER: u8 = 5;
/// Everything after the first frame of these two types is encrypted; they themselves are not.
const SECURE: u8 = 10;
const SECURED: u8 = 11;
/// The header flag that says that the data has a digest.
const DIGEST: u8 = 1;
/// The Welcome's attribute `credits`.
const CREDITS: u16 = 5;

/// A frame that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A Request's header is complete.
    Request,
    /// An Answer's header is complete.
    Answer,
    /// A Welcome that grants this many credits.
    Welcome(u32),
}

/// A bit that is to be flipped.
#[derive(Debug, Clone, Copy)]
struct Corruption {
    /// Which of the eligible bits, modulo their number.
    bit: u8,
    /// Whether to flip a bit of data that has a digest; otherwise one of a header.
    data: bool,
}

/// The position in a stream of frames.
#[derive(Debug)]
struct Follower {
    header: [u8; HEADER],
    have: usize,
    data_left: usize,
    welcome: Option<Vec<u8>>,
    lost: bool,
    /// Whether the stream is encrypted from here on and cannot be read.
    sealed: bool,
}

impl Follower {
    fn new() -> Follower {
        Follower { header: [0; HEADER], have: 0, data_left: 0, welcome: None, lost: false, sealed: false }
    }

    /// Follows the stream over `bytes`. If `corrupt` is set, flips one bit of the first eligible
    /// bytes and clears `corrupt`.
    fn pass(&mut self, bytes: &mut [u8], corrupt: &mut Option<Corruption>, mut seen: impl FnMut(Seen)) {
        let mut at = 0;
        while at < bytes.len() && !self.lost {
            if self.sealed {
                // In records, any changed bit must be noticed, whatever it belongs to.
                if let Some(found) = corrupt.take() {
                    let which = usize::from(found.bit) % ((bytes.len() - at) * 8);
                    bytes[at + which / 8] ^= 1 << (which % 8);
                }
                return;
            }
            if self.data_left > 0 {
                let n = self.data_left.min(bytes.len() - at);
                if let Some(welcome) = &mut self.welcome {
                    welcome.extend_from_slice(&bytes[at..at + n]);
                }
                let protected = self.header[2] & DIGEST != 0 && matches!(self.header[0], REQUEST | ANSWER);
                if protected && let Some(found) = corrupt.take_if(|c| c.data) {
                    let which = usize::from(found.bit) % (n * 8);
                    bytes[at + which / 8] ^= 1 << (which % 8);
                }
                self.data_left -= n;
                at += n;
                self.sealed = self.data_left == 0 && matches!(self.header[0], SECURE | SECURED);
                if self.data_left == 0
                    && let Some(welcome) = self.welcome.take()
                {
                    seen(Seen::Welcome(credits(&welcome).unwrap_or(0)));
                }
                continue;
            }
            let n = (HEADER - self.have).min(bytes.len() - at);
            self.header[self.have..self.have + n].copy_from_slice(&bytes[at..at + n]);
            if let Some(found) = corrupt.take_if(|c| !c.data) {
                let which = usize::from(found.bit) % (n * 8);
                bytes[at + which / 8] ^= 1 << (which % 8);
            }
            self.have += n;
            at += n;
            if self.have == HEADER {
                self.have = 0;
                self.begin(&mut seen);
            }
        }
    }

    fn begin(&mut self, seen: &mut impl FnMut(Seen)) {
        let len = u32::from_le_bytes([self.header[4], self.header[5], self.header[6], self.header[7]]);
        self.data_left = len as usize;
        match self.header[0] {
            REQUEST => seen(Seen::Request),
            ANSWER => seen(Seen::Answer),
            WELCOME => self.welcome = Some(Vec::new()),
            1..=11 => {}
            _ => self.lost = true,
        }
    }
}

/// Returns the credits that a Welcome grants.
fn credits(mut data: &[u8]) -> Option<u32> {
    while data.len() >= 4 {
        let kind = u16::from_le_bytes([data[0], data[1]]);
        let len = usize::from(u16::from_le_bytes([data[2], data[3]]));
        let value = data.get(4..4 + len)?;
        if kind == CREDITS {
            return Some(u32::from(u16::from_le_bytes([*value.first()?, *value.get(1)?])));
        }
        data = &data[4 + len..];
    }
    None
}

/// The stream that one socket sends.
struct Direction {
    follower: Follower,
    /// The corruption to be applied to what the socket sends next.
    corruption: Option<Corruption>,
    /// Requests that the socket sent and that are not answered yet.
    outstanding: u32,
    /// Requests that the socket may have outstanding; `None` before its Welcome.
    credits: Option<u32>,
}

impl Default for Direction {
    fn default() -> Direction {
        Direction { follower: Follower::new(), corruption: None, outstanding: 0, credits: None }
    }
}

/// A connection with more Requests outstanding than were granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Requests outstanding.
    pub outstanding: u32,
    /// Credits granted.
    pub granted: u32,
}

/// The frames of all connections, by the socket that sends them.
#[derive(Default)]
pub struct Frames {
    directions: RefCell<BTreeMap<u64, Direction>>,
    excess: RefCell<Vec<Excess>>,
}

impl Frames {
    /// Flips one bit of the next header that this side sends, or of the next data that has a
    /// digest.
    pub fn corrupt(&self, connection: u64, from_client: bool, data: bool) {
        let bit = world::dice(|r| r.bits()) as u8;
        let Some(peer) = net::peer(connection) else { return };
        let from = if from_client { connection } else { peer };
        self.directions.borrow_mut().entry(from).or_default().corruption = Some(Corruption { bit, data });
    }

    /// Cancels all corruptions that have not been applied yet.
    pub fn heal(&self) {
        self.directions.borrow_mut().values_mut().for_each(|direction| direction.corruption = None);
    }

    /// Returns the connections' excesses since the last call.
    pub fn take_excess(&self) -> Vec<Excess> {
        self.excess.take()
    }
}

impl Tap for Frames {
    fn pass(&self, from: u64, to: u64, bytes: &mut [u8]) -> bool {
        let mut directions = self.directions.borrow_mut();
        let mut seen = Vec::new();
        let sender = directions.entry(from).or_default();
        let armed = sender.corruption.is_some();
        sender.follower.pass(bytes, &mut sender.corruption, |what| seen.push(what));
        let corrupted = armed && sender.corruption.is_none();
        for what in seen {
            match what {
                Seen::Request => {
                    let sender = directions.entry(from).or_default();
                    sender.outstanding += 1;
                    let (outstanding, granted) = (sender.outstanding, sender.credits.unwrap_or(0));
                    if outstanding > granted {
                        self.excess.borrow_mut().push(Excess { outstanding, granted });
                    }
                }
                Seen::Answer => {
                    let asker = directions.entry(to).or_default();
                    asker.outstanding = asker.outstanding.saturating_sub(1);
                }
                Seen::Welcome(credits) => directions.entry(to).or_default().credits = Some(credits),
            }
        }
        corrupted
    }

    fn forget(&self, sock: u64) {
        self.directions.borrow_mut().remove(&sock);
    }
}
