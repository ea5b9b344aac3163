//! The handshake's messages and the target's events.
//!
//! A connection begins with the client's [`Hello`]; the target says [`Welcome`] or [`Refusal`]. The first
//! connection of a client has no [`SessionRef`]: it opens a session, and the target's welcome names it.
//! It carries no requests, only keep-alives and events. Each further connection joins the session as a
//! queue of its own.

use crate::attribute::{Reader, Writer};
use crate::{CREDITS_MAX, OpSet, TRANSFER_MAX, WireError};

/// Longest name of an export or a host, in bytes: NVMe's limit for a qualified name.
pub const NAME_MAX: usize = 223;

/// Longest text that explains a refusal, in bytes.
pub const TEXT_MAX: usize = 255;

/// A checksum over the data of a frame. The number is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Digest {
    /// None.
    None = 0,
    /// CRC32C.
    Crc32c = 1,
}

/// Protection of everything after the handshake. The number is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// None: all can be read on the way.
    None = 0,
    /// AES-128 in Galois/counter mode.
    Aes128Gcm = 1,
    /// AES-256 in Galois/counter mode.
    Aes256Gcm = 2,
    /// ChaCha20 with Poly1305.
    ChaCha20Poly1305 = 3,
}

/// Which connection of which session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRef {
    /// Given by the target in its first welcome.
    pub id: [u8; 16],
    /// 0 is the session's first connection; each thread of the client has one number above it.
    pub queue: u16,
    /// Counts the connections that this queue has had, so that a late one is known as such.
    pub epoch: u32,
}

/// The client's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Lowest and highest protocol version that the client speaks.
    pub versions: (u16, u16),
    /// The export that it wants.
    pub export: String,
    /// Who it says it is.
    pub host: String,
    /// The session that it joins; none: a new one.
    pub session: Option<SessionRef>,
    /// Transactions that it would like to have outstanding on this connection.
    pub credits: u16,
    /// Digests that it can do, the preferred one first, as wire codes (unknown ones are passed over).
    pub digests: Vec<u8>,
    /// Ciphers that it can do, likewise.
    pub ciphers: Vec<u8>,
    /// After how many milliseconds without a sign of life each side gives the connection up.
    pub keep_alive_ms: u32,
}

mod hello_attr {
    pub const VERSION_MIN: u16 = 1;
    pub const VERSION_MAX: u16 = 2;
    pub const EXPORT: u16 = 3;
    pub const HOST: u16 = 4;
    pub const SESSION: u16 = 5;
    pub const CREDITS: u16 = 6;
    pub const DIGESTS: u16 = 7;
    pub const CIPHERS: u16 = 8;
    pub const KEEP_ALIVE: u16 = 9;
}

mod session_attr {
    pub const ID: u16 = 1;
    pub const QUEUE: u16 = 2;
    pub const EPOCH: u16 = 3;
}

/// What `found` is, or the error that says it is missing.
fn required<T>(found: Option<T>, kind: u16) -> Result<T, WireError> {
    found.ok_or(WireError::Missing(kind))
}

impl SessionRef {
    fn write(&self) -> Writer {
        let mut w = Writer::new();
        w.bytes(session_attr::ID, &self.id)
            .u16(session_attr::QUEUE, self.queue)
            .u32(session_attr::EPOCH, self.epoch);
        w
    }

    fn read(message: &[u8]) -> Result<SessionRef, WireError> {
        let (mut id, mut queue, mut epoch) = (None, None, None);
        let mut reader = Reader::new(message);
        while let Some(a) = reader.next()? {
            match a.kind {
                session_attr::ID => id = Some(a.uuid()?),
                session_attr::QUEUE => queue = Some(a.u16()?),
                session_attr::EPOCH => epoch = Some(a.u32()?),
                _ => {}
            }
        }
        Ok(SessionRef {
            id: required(id, session_attr::ID)?,
            queue: required(queue, session_attr::QUEUE)?,
            epoch: required(epoch, session_attr::EPOCH)?,
        })
    }
}

impl Hello {
    /// The message's attributes.
    pub fn encode(&self) -> Vec<u8> {
        use hello_attr::*;
        let mut w = Writer::new();
        w.u16(VERSION_MIN, self.versions.0)
            .u16(VERSION_MAX, self.versions.1)
            .bytes(EXPORT, self.export.as_bytes())
            .bytes(HOST, self.host.as_bytes())
            .u16(CREDITS, self.credits)
            .bytes(DIGESTS, &self.digests)
            .bytes(CIPHERS, &self.ciphers)
            .u32(KEEP_ALIVE, self.keep_alive_ms);
        if let Some(session) = &self.session {
            w.nested(SESSION, session.write());
        }
        w.finish()
    }

    /// Reads a message's attributes.
    ///
    /// # Errors
    /// See [`WireError`]; a hello without versions, export, host, credits or keep-alive is one.
    pub fn decode(message: &[u8]) -> Result<Hello, WireError> {
        use hello_attr::*;
        let (mut min, mut max, mut export, mut host) = (None, None, None, None);
        let (mut session, mut credits, mut keep_alive) = (None, None, None);
        let (mut digests, mut ciphers) = (Vec::new(), Vec::new());
        let mut reader = Reader::new(message);
        while let Some(a) = reader.next()? {
            match a.kind {
                VERSION_MIN => min = Some(a.u16()?),
                VERSION_MAX => max = Some(a.u16()?),
                EXPORT => export = Some(a.text(NAME_MAX)?.to_owned()),
                HOST => host = Some(a.text(NAME_MAX)?.to_owned()),
                SESSION => session = Some(SessionRef::read(a.value)?),
                CREDITS => credits = Some(a.u16()?),
                DIGESTS => digests = a.value.to_vec(),
                CIPHERS => ciphers = a.value.to_vec(),
                KEEP_ALIVE => keep_alive = Some(a.u32()?),
                _ => {}
            }
        }
        Ok(Hello {
            versions: (required(min, VERSION_MIN)?, required(max, VERSION_MAX)?),
            export: required(export, EXPORT)?,
            host: required(host, HOST)?,
            session,
            credits: required(credits, CREDITS)?,
            digests,
            ciphers,
            keep_alive_ms: required(keep_alive, KEEP_ALIVE)?,
        })
    }
}

/// What a client must know of the device behind an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The export's identity; the same for as long as it is the same data.
    pub uuid: [u8; 16],
    /// Size in blocks.
    pub num_blocks: u64,
    /// Bytes in a block: a power of two from 512.
    pub block_size: u32,
    /// Writes come in multiples of this many blocks.
    pub write_unit_size: u32,
    /// I/O that crosses a multiple of this many blocks is slower; 0: no such boundary.
    pub optimal_io_boundary: u32,
    /// Most blocks of one compare-and-write; 0: not supported.
    pub compare_and_write_max: u32,
    /// Whether completed writes may be lost with the backend's power until they are flushed.
    pub write_cache: bool,
    /// Whether modifying operations are refused.
    pub read_only: bool,
    /// The operations that this connection may ask for.
    pub ops: OpSet,
}

mod device_attr {
    pub const UUID: u16 = 1;
    pub const NUM_BLOCKS: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
    pub const WRITE_UNIT: u16 = 4;
    pub const BOUNDARY: u16 = 5;
    pub const COMPARE_AND_WRITE_MAX: u16 = 6;
    pub const WRITE_CACHE: u16 = 7;
    pub const READ_ONLY: u16 = 8;
    pub const OPS: u16 = 9;
}

impl Device {
    fn write(&self) -> Writer {
        use device_attr::*;
        let mut w = Writer::new();
        w.bytes(UUID, &self.uuid)
            .u64(NUM_BLOCKS, self.num_blocks)
            .u32(BLOCK_SIZE, self.block_size)
            .u32(WRITE_UNIT, self.write_unit_size)
            .u32(BOUNDARY, self.optimal_io_boundary)
            .u32(COMPARE_AND_WRITE_MAX, self.compare_and_write_max)
            .u8(WRITE_CACHE, self.write_cache.into())
            .u8(READ_ONLY, self.read_only.into())
            .u32(OPS, self.ops.bits());
        w
    }

    fn read(message: &[u8]) -> Result<Device, WireError> {
        use device_attr::*;
        let (mut uuid, mut num_blocks, mut block_size, mut ops) = (None, None, None, None);
        let (mut write_unit_size, mut optimal_io_boundary, mut compare_and_write_max) = (1, 0, 0);
        let (mut write_cache, mut read_only) = (false, false);
        let mut reader = Reader::new(message);
        while let Some(a) = reader.next()? {
            match a.kind {
                UUID => uuid = Some(a.uuid()?),
                NUM_BLOCKS => num_blocks = Some(a.u64()?),
                BLOCK_SIZE => block_size = Some(a.u32()?),
                WRITE_UNIT => write_unit_size = a.u32()?,
                BOUNDARY => optimal_io_boundary = a.u32()?,
                COMPARE_AND_WRITE_MAX => compare_and_write_max = a.u32()?,
                WRITE_CACHE => write_cache = a.u8()? != 0,
                READ_ONLY => read_only = a.u8()? != 0,
                OPS => ops = Some(OpSet::from_bits(a.u32()?)),
                _ => {}
            }
        }
        let device = Device {
            uuid: required(uuid, UUID)?,
            num_blocks: required(num_blocks, NUM_BLOCKS)?,
            block_size: required(block_size, BLOCK_SIZE)?,
            write_unit_size,
            optimal_io_boundary,
            compare_and_write_max,
            write_cache,
            read_only,
            ops: required(ops, OPS)?,
        };
        if !device.block_size.is_power_of_two() || !(512..=65_536).contains(&device.block_size) {
            return Err(WireError::Value(BLOCK_SIZE));
        }
        let bytes = device.num_blocks.checked_mul(device.block_size.into());
        if device.num_blocks == 0 || bytes.is_none_or(|bytes| bytes > i64::MAX as u64) {
            return Err(WireError::Value(NUM_BLOCKS));
        }
        if device.write_unit_size == 0 {
            return Err(WireError::Value(WRITE_UNIT));
        }
        Ok(device)
    }
}

/// The target's answer to a hello that it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version that both speak from here on.
    pub version: u16,
    /// The target's start: another value after each.
    pub instance: [u8; 16],
    /// The session and the connection's place in it.
    pub session: SessionRef,
    /// What is exported.
    pub device: Device,
    /// Transactions that may be outstanding on this connection: slots 0 to `credits - 1`.
    pub credits: u16,
    /// Most bytes of blocks in one request.
    pub max_transfer: u32,
    /// The digest in use, a wire code of [`Digest`].
    pub digest: u8,
    /// The cipher in use, a wire code of [`Cipher`].
    pub cipher: u8,
    /// After how many milliseconds without a sign of life each side gives the connection up.
    pub keep_alive_ms: u32,
}

mod welcome_attr {
    pub const VERSION: u16 = 1;
    pub const INSTANCE: u16 = 2;
    pub const SESSION: u16 = 3;
    pub const DEVICE: u16 = 4;
    pub const CREDITS: u16 = 5;
    pub const MAX_TRANSFER: u16 = 6;
    pub const DIGEST: u16 = 7;
    pub const CIPHER: u16 = 8;
    pub const KEEP_ALIVE: u16 = 9;
}

impl Welcome {
    /// The message's attributes.
    pub fn encode(&self) -> Vec<u8> {
        use welcome_attr::*;
        let mut w = Writer::new();
        w.u16(VERSION, self.version)
            .bytes(INSTANCE, &self.instance)
            .nested(SESSION, self.session.write())
            .nested(DEVICE, self.device.write())
            .u16(CREDITS, self.credits)
            .u32(MAX_TRANSFER, self.max_transfer)
            .u8(DIGEST, self.digest)
            .u8(CIPHER, self.cipher)
            .u32(KEEP_ALIVE, self.keep_alive_ms);
        w.finish()
    }

    /// Reads a message's attributes.
    ///
    /// # Errors
    /// See [`WireError`]; impossible values (no credits, a block of 3 bytes) are among them.
    pub fn decode(message: &[u8]) -> Result<Welcome, WireError> {
        use welcome_attr::*;
        let (mut version, mut instance, mut session, mut device) = (None, None, None, None);
        let (mut credits, mut max_transfer, mut keep_alive) = (None, None, None);
        let (mut digest, mut cipher) = (0, 0);
        let mut reader = Reader::new(message);
        while let Some(a) = reader.next()? {
            match a.kind {
                VERSION => version = Some(a.u16()?),
                INSTANCE => instance = Some(a.uuid()?),
                SESSION => session = Some(SessionRef::read(a.value)?),
                DEVICE => device = Some(Device::read(a.value)?),
                CREDITS => credits = Some(a.u16()?),
                MAX_TRANSFER => max_transfer = Some(a.u32()?),
                DIGEST => digest = a.u8()?,
                CIPHER => cipher = a.u8()?,
                KEEP_ALIVE => keep_alive = Some(a.u32()?),
                _ => {}
            }
        }
        let welcome = Welcome {
            version: required(version, VERSION)?,
            instance: required(instance, INSTANCE)?,
            session: required(session, SESSION)?,
            device: required(device, DEVICE)?,
            credits: required(credits, CREDITS)?,
            max_transfer: required(max_transfer, MAX_TRANSFER)?,
            digest,
            cipher,
            keep_alive_ms: required(keep_alive, KEEP_ALIVE)?,
        };
        if welcome.credits == 0 || welcome.credits > CREDITS_MAX {
            return Err(WireError::Value(CREDITS));
        }
        let block_size = welcome.device.block_size;
        if welcome.max_transfer < block_size
            || welcome.max_transfer > TRANSFER_MAX
            || !welcome.max_transfer.is_multiple_of(block_size)
        {
            return Err(WireError::Value(MAX_TRANSFER));
        }
        Ok(welcome)
    }
}

/// Why a target refuses. The number is the one on the wire; an unknown one is read as `NotAllowed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum RefusalReason {
    /// No such export, or not for this host from this address: the client is not told which.
    NotAllowed = 1,
    /// No protocol version in common.
    Version = 2,
    /// No digest or cipher in common, or the export demands another one.
    Protection = 3,
    /// A limit of the target is reached; trying again later may help.
    Busy = 4,
    /// The hello could not be read.
    Malformed = 5,
    /// The session that the client wants to join does not exist any more.
    NoSession = 6,
}

/// The target's answer to a hello that it does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The same for people; at most [`TEXT_MAX`] bytes.
    pub text: String,
}

mod refusal_attr {
    pub const REASON: u16 = 1;
    pub const TEXT: u16 = 2;
}

impl Refusal {
    /// The message's attributes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u16(refusal_attr::REASON, self.reason as u16).bytes(refusal_attr::TEXT, self.text.as_bytes());
        w.finish()
    }

    /// Reads a message's attributes.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(message: &[u8]) -> Result<Refusal, WireError> {
        let (mut reason, mut text) = (None, "no reason given");
        let mut reader = Reader::new(message);
        while let Some(a) = reader.next()? {
            match a.kind {
                refusal_attr::REASON => {
                    reason = Some(match a.u16()? {
                        2 => RefusalReason::Version,
                        3 => RefusalReason::Protection,
                        4 => RefusalReason::Busy,
                        5 => RefusalReason::Malformed,
                        6 => RefusalReason::NoSession,
                        _ => RefusalReason::NotAllowed,
                    });
                }
                refusal_attr::TEXT => text = a.text(TEXT_MAX)?,
                _ => {}
            }
        }
        Ok(Refusal { reason: required(reason, refusal_attr::REASON)?, text: text.to_owned() })
    }
}

/// Something about the export changed. The header's code says which event, its attributes the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The device has another size now, in blocks.
    Resized(u64),
    /// The export is gone, or this host's right to it; the session ends.
    Removed,
}

const EVENT_RESIZED: u8 = 1;
const EVENT_REMOVED: u8 = 2;
const EVENT_ATTR_NUM_BLOCKS: u16 = 1;

impl Event {
    /// The header's code.
    pub fn code(self) -> u8 {
        match self {
            Event::Resized(_) => EVENT_RESIZED,
            Event::Removed => EVENT_REMOVED,
        }
    }

    /// The message's attributes.
    pub fn encode(self) -> Vec<u8> {
        let mut w = Writer::new();
        if let Event::Resized(num_blocks) = self {
            w.u64(EVENT_ATTR_NUM_BLOCKS, num_blocks);
        }
        w.finish()
    }

    /// Reads an event; `None` for one that is not known here, which is passed over.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(code: u8, message: &[u8]) -> Result<Option<Event>, WireError> {
        let mut num_blocks = None;
        let mut reader = Reader::new(message);
        while let Some(a) = reader.next()? {
            if a.kind == EVENT_ATTR_NUM_BLOCKS {
                num_blocks = Some(a.u64()?);
            }
        }
        match code {
            EVENT_RESIZED => Ok(Some(Event::Resized(required(num_blocks, EVENT_ATTR_NUM_BLOCKS)?))),
            EVENT_REMOVED => Ok(Some(Event::Removed)),
            _ => Ok(None),
        }
    }
}
