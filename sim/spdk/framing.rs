//! Follows the frames of a byte stream, one direction of a connection.
//!
//! Only the layout that docs/protocol.md promises for ever is read: enough to corrupt headers and leave data
//! alone, which has no digest yet, and to count requests against the credits.

const HEADER: usize = 48;
const WELCOME: u8 = 2;
const REQUEST: u8 = 4;
const ANSWER: u8 = 5;
/// Behind the first of these, and of these alone, everything is encrypted.
const SECURE: u8 = 10;
const SECURED: u8 = 11;
/// The flag of data that has a digest.
const DIGEST: u8 = 1;
/// Welcome's attribute `credits`.
const CREDITS: u16 = 5;

/// What went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A request's header, complete.
    Request,
    /// An answer's header, complete.
    Answer,
    /// A welcome that grants so many credits.
    Welcome(u32),
}

/// A bit that is to be changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Corruption {
    /// Which, of those that could be.
    pub bit: u8,
    /// One of data that has a digest, else one of a header.
    pub data: bool,
}

/// Where in the stream we are.
#[derive(Debug)]
pub(crate) struct Follower {
    header: [u8; HEADER],
    have: usize,
    data_left: usize,
    welcome: Option<Vec<u8>>,
    lost: bool,
    /// What goes by can't be read any more.
    sealed: bool,
}

impl Follower {
    pub fn new() -> Follower {
        Follower { header: [0; HEADER], have: 0, data_left: 0, welcome: None, lost: false, sealed: false }
    }

    /// Passes bytes on. With `corrupt` a bit of the first bytes of that sort is changed, and `corrupt` reset.
    pub fn pass(&mut self, bytes: &mut [u8], corrupt: &mut Option<Corruption>, mut seen: impl FnMut(Seen)) {
        let mut at = 0;
        while at < bytes.len() && !self.lost {
            if self.sealed {
                // No bit of it may be changed unnoticed, whatever it belongs to.
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

/// The credits that a welcome grants.
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
