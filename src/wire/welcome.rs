//! The target's reply to a hello that it accepts.

use crate::attribute::{Reader, Writer, required};
use crate::{CREDITS_MAX, Cipher, Device, Digest, KEEP_ALIVE_MS, SessionRef, TRANSFER_MAX, WireError};

/// The target's reply to a hello that it accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Welcome {
    /// The protocol version that both ends speak from here on, at least 1.
    pub version: u16,
    /// The target's instance, which changes at each start.
    pub instance: [u8; 16],
    /// The session and the connection's place in it.
    pub session: SessionRef,
    /// The exported device.
    pub device: Device,
    /// Whether nothing sent in the hello's previous session is being executed or ever will be.
    /// `false`: the target cannot tell, so the client waits for the end of that session's leases.
    pub previous_ended: bool,
    /// Whether everything that the previous session's target completed is in the backend, flushed
    /// or not, although that target has ended.
    pub cache_kept: bool,
    /// The number of the session's ownership, at least 1, or `None` if the session is shared. A client
    /// that claimed an ownership must not use a session without one.
    pub ownership: Option<u64>,
    /// The number of transactions that may be outstanding on this connection, in slots 0 to
    /// `credits - 1`. 1 to [`CREDITS_MAX`].
    pub credits: u16,
    /// The maximum bytes of blocks in one request: whole write units, at most [`TRANSFER_MAX`].
    pub max_transfer: u32,
    /// The digest in use.
    pub digest: Digest,
    /// The cipher in use.
    pub cipher: Cipher,
    /// The time without a sign of life after which each side gives up the connection, in
    /// milliseconds. Within [`KEEP_ALIVE_MS`].
    pub keep_alive_ms: u32,
    /// Whether the client may abort requests on this connection.
    pub aborts: bool,
}

const LIST: &str = "welcome";

mod attr {
    pub const VERSION: u16 = 1;
    pub const INSTANCE: u16 = 2;
    pub const SESSION: u16 = 3;
    pub const DEVICE: u16 = 4;
    pub const CREDITS: u16 = 5;
    pub const MAX_TRANSFER: u16 = 6;
    pub const DIGEST: u16 = 7;
    pub const CIPHER: u16 = 8;
    pub const KEEP_ALIVE: u16 = 9;
    pub const PREVIOUS_ENDED: u16 = 10;
    pub const CACHE_KEPT: u16 = 11;
    pub const OWNERSHIP: u16 = 12;
    pub const ABORTS: u16 = 13;
}

impl Welcome {
    /// Encodes the attributes of the message. The fields must be valid as described, or a client
    /// rejects the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u16(attr::VERSION, self.version)
            .bytes(attr::INSTANCE, &self.instance)
            .nested(attr::SESSION, self.session.write())
            .nested(attr::DEVICE, self.device.write())
            .u16(attr::CREDITS, self.credits)
            .u32(attr::MAX_TRANSFER, self.max_transfer)
            .u8(attr::DIGEST, self.digest.code())
            .u8(attr::CIPHER, self.cipher.code());
        if self.previous_ended {
            w.u8(attr::PREVIOUS_ENDED, 1);
        }
        if self.cache_kept {
            w.u8(attr::CACHE_KEPT, 1);
        }
        if let Some(number) = self.ownership {
            w.u64(attr::OWNERSHIP, number);
        }
        if self.aborts {
            w.u8(attr::ABORTS, 1);
        }
        w.u32(attr::KEEP_ALIVE, self.keep_alive_ms);
        w.finish()
    }

    /// Decodes the attributes of a message.
    ///
    /// # Errors
    /// See [`WireError`]. Impossible values, such as no credits or a block of 3 bytes, are errors
    /// too.
    pub fn decode(message: &[u8]) -> Result<Welcome, WireError> {
        let (mut version, mut instance, mut session, mut device) = (None, None, None, None);
        let (mut credits, mut max_transfer, mut keep_alive) = (None, None, None);
        let (mut digest, mut cipher) = (Digest::None, Cipher::None);
        let (mut previous_ended, mut cache_kept) = (false, false);
        let (mut ownership, mut aborts) = (None, false);
        let mut reader = Reader::new(LIST, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                attr::VERSION => version = Some(a.u16()?),
                attr::INSTANCE => instance = Some(a.uuid()?),
                attr::SESSION => session = Some(SessionRef::read(a.value)?),
                attr::DEVICE => device = Some(Device::read(a.value)?),
                attr::CREDITS => credits = Some(a.u16()?),
                attr::MAX_TRANSFER => max_transfer = Some(a.u32()?),
                attr::DIGEST => digest = a.code(Digest::try_from_code)?,
                attr::CIPHER => cipher = a.code(Cipher::try_from_code)?,
                attr::KEEP_ALIVE => keep_alive = Some(a.u32()?),
                attr::PREVIOUS_ENDED => previous_ended = a.u8()? != 0,
                attr::CACHE_KEPT => cache_kept = a.u8()? != 0,
                attr::OWNERSHIP => ownership = Some(a.u64()?),
                attr::ABORTS => aborts = a.u8()? != 0,
                _ => {}
            }
        }
        let welcome = Welcome {
            version: required(version, LIST, attr::VERSION)?,
            instance: required(instance, LIST, attr::INSTANCE)?,
            session: required(session, LIST, attr::SESSION)?,
            device: required(device, LIST, attr::DEVICE)?,
            previous_ended,
            cache_kept,
            ownership,
            credits: required(credits, LIST, attr::CREDITS)?,
            max_transfer: required(max_transfer, LIST, attr::MAX_TRANSFER)?,
            digest,
            cipher,
            keep_alive_ms: required(keep_alive, LIST, attr::KEEP_ALIVE)?,
            aborts,
        };
        // If no write unit fitted into a transfer, the device could not be written.
        let unit = u64::from(welcome.device.block_size) * u64::from(welcome.device.write_unit_size);
        let max_transfer = u64::from(welcome.max_transfer);
        let transfer =
            (unit..=TRANSFER_MAX.into()).contains(&max_transfer) && max_transfer.is_multiple_of(unit);
        let allowed = [
            (welcome.version >= 1, attr::VERSION),
            ((1..=CREDITS_MAX).contains(&welcome.credits), attr::CREDITS),
            (transfer, attr::MAX_TRANSFER),
            (KEEP_ALIVE_MS.contains(&welcome.keep_alive_ms), attr::KEEP_ALIVE),
            (welcome.ownership != Some(0), attr::OWNERSHIP),
        ];
        WireError::unless_all(LIST, &allowed)?;
        Ok(welcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{AttributeRef, OpSet};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn any_welcome() -> impl Strategy<Value = Welcome> {
        let numbers = (1u16.., 1..=CREDITS_MAX, 1u32..=8, KEEP_ALIVE_MS, any::<(bool, bool, bool)>());
        let ownership = proptest::option::of(1u64..);
        let protection = (select(&Digest::ALL[..]), select(&Cipher::ALL[..]));
        (any::<[u8; 16]>(), any_session(), any_device(), numbers, protection, ownership).prop_map(
            |(
                instance,
                session,
                device,
                (version, credits, units, keep_alive_ms, (previous_ended, cache_kept, aborts)),
                (digest, cipher),
                ownership,
            )| {
                Welcome {
                    version,
                    instance,
                    session,
                    device,
                    previous_ended,
                    cache_kept,
                    ownership,
                    credits,
                    max_transfer: units * device.block_size * device.write_unit_size,
                    digest,
                    cipher,
                    keep_alive_ms,
                    aborts,
                }
            },
        )
    }

    fn example() -> Welcome {
        Welcome {
            version: 1,
            instance: [9; 16],
            session: SessionRef { id: [7; 16], queue: 0, epoch: 0 },
            device: Device {
                uuid: [3; 16],
                num_blocks: 1 << 20,
                block_size: 4096,
                write_unit_size: 2,
                optimal_io_boundary: 0,
                compare_and_write_max: 0,
                write_cache: true,
                read_only: false,
                ops: OpSet::from_bits(0xfe),
            },
            previous_ended: false,
            cache_kept: false,
            ownership: None,
            credits: 128,
            max_transfer: 1 << 20,
            digest: Digest::None,
            cipher: Cipher::None,
            keep_alive_ms: 10_000,
            aborts: false,
        }
    }

    #[test]
    fn what_is_missing_is_named_or_has_a_default() {
        let bytes = example().encode();
        for kind in 1..=9 {
            let read = Welcome::decode(&without(&bytes, &[], kind));
            if [attr::DIGEST, attr::CIPHER].contains(&kind) {
                assert_eq!(read, Ok(example()));
            } else {
                assert_eq!(read, Err(WireError::Missing(AttributeRef { list: "welcome", kind })));
            }
        }
        for kind in [1, 2, 3, 9] {
            let missing = WireError::Missing(AttributeRef { list: "device", kind });
            assert_eq!(Welcome::decode(&without(&bytes, &[attr::DEVICE], kind)), Err(missing));
        }
        for kind in 1..=3 {
            let missing = WireError::Missing(AttributeRef { list: "session", kind });
            assert_eq!(Welcome::decode(&without(&bytes, &[attr::SESSION], kind)), Err(missing));
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        let refused = |kind, welcome: Welcome| {
            let error = Err(WireError::Value(AttributeRef { list: LIST, kind }));
            assert_eq!(Welcome::decode(&welcome.encode()), error, "{welcome:?}");
        };
        refused(attr::VERSION, Welcome { version: 0, ..example() });
        for credits in [0, CREDITS_MAX + 1, u16::MAX] {
            refused(attr::CREDITS, Welcome { credits, ..example() });
        }
        // Nothing, half a write unit, one and a half, more than is allowed at all.
        for max_transfer in [0, 4096, 12_288, TRANSFER_MAX + 8192, u32::MAX] {
            refused(attr::MAX_TRANSFER, Welcome { max_transfer, ..example() });
        }
        let device = Device { write_unit_size: u32::MAX, ..example().device };
        refused(attr::MAX_TRANSFER, Welcome { device, ..example() });
        for keep_alive_ms in [0, KEEP_ALIVE_MS.start() - 1, KEEP_ALIVE_MS.end() + 1, u32::MAX] {
            refused(attr::KEEP_ALIVE, Welcome { keep_alive_ms, ..example() });
        }
        refused(attr::OWNERSHIP, Welcome { ownership: Some(0), ..example() });
    }

    #[test]
    fn unknown_protection_is_refused() {
        for kind in [attr::DIGEST, attr::CIPHER] {
            for code in [4, u8::MAX] {
                let error = Err(WireError::Value(AttributeRef { list: LIST, kind }));
                assert_eq!(Welcome::decode(&with(&example().encode(), &[], kind, &[code])), error);
            }
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(welcome in any_welcome()) {
            prop_assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
        }

        #[test]
        fn unknown_attributes_are_passed_over(welcome in any_welcome(), unknown in any_unknown()) {
            let mut bytes = welcome.encode();
            for path in [&[] as &[u16], &[attr::SESSION], &[attr::DEVICE]] {
                bytes = with_unknown(&bytes, path, &unknown);
                prop_assert_eq!(&Welcome::decode(&bytes), &Ok(welcome.clone()));
            }
        }

        #[test]
        fn a_cut_welcome_is_an_error(welcome in any_welcome(), cut in any::<prop::sample::Index>()) {
            // The keep-alive, which can't be missing, is at the end.
            let bytes = welcome.encode();
            prop_assert!(Welcome::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in vec(any::<u8>(), 0..512)) {
            let _ = Welcome::decode(&bytes);
        }

        #[test]
        fn any_change_of_a_byte_decodes_without_panic(welcome in any_welcome(), at in any::<prop::sample::Index>(), byte: u8) {
            let mut bytes = welcome.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = Welcome::decode(&bytes) {
                prop_assert_eq!(Welcome::decode(&read.encode()), Ok(read));
            }
        }
    }
}
