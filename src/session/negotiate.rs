//! What a hello is answered with, and whether the answer will do.

use dst_wire::{
    CREDITS_MAX, Cipher, Device, Digest, Hello, KEEP_ALIVE_MS, Refusal, RefusalReason, VERSION, Welcome,
};
use thiserror::Error;

/// What the two sides have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The protocol version.
    pub version: u16,
    /// Slots granted.
    pub credits: u16,
    /// The digest.
    pub digest: Digest,
    /// The cipher.
    pub cipher: Cipher,
    /// The keep-alive time-out.
    pub keep_alive_ms: u32,
}

/// A refusal. Its text is made to fit when it is encoded.
pub fn refuse(reason: RefusalReason, text: impl Into<String>) -> Refusal {
    Refusal { reason, text: text.into() }
}

/// What a target grants and demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Most slots.
    pub credits_max: u16,
    /// Longest keep-alive time, ms.
    pub keep_alive_max_ms: u32,
    /// Whether data must have digests.
    pub require_digest: bool,
    /// What the connection is secured with already.
    pub cipher: Cipher,
}

/// Chooses from what a client offers: of the digests that the target has, the one that the client prefers.
///
/// # Errors
/// The refusal to send when there is nothing in common.
pub fn agree(hello: &Hello, terms: &Terms) -> Result<Agreed, Refusal> {
    let (min, max) = hello.versions;
    if !(min..=max).contains(&VERSION) {
        let text = format!("the target speaks version {VERSION}, the client {min} to {max}");
        return Err(refuse(RefusalReason::Version, text));
    }
    let has = |code: &u8| {
        Digest::try_from_code(*code).filter(|&digest| !(terms.require_digest && digest == Digest::None))
    };
    let Some(digest) = hello.digests.iter().find_map(has) else {
        let text = if terms.require_digest {
            "the export demands a digest of data, CRC32C, that the client does not offer"
        } else {
            "the target has none of the digests of data that the client offers"
        };
        return Err(refuse(RefusalReason::Protection, text));
    };
    // It was agreed on when the connection was secured. Whoever wants one without that is told so.
    if !hello.ciphers.contains(&terms.cipher.code()) {
        let text = format!("the connection has the cipher {}, which the client does not offer", terms.cipher);
        return Err(refuse(RefusalReason::Protection, text));
    }
    Ok(Agreed {
        version: VERSION,
        credits: hello.credits.clamp(1, terms.credits_max.min(CREDITS_MAX)),
        digest,
        cipher: terms.cipher,
        keep_alive_ms: hello
            .keep_alive_ms
            .min(terms.keep_alive_max_ms)
            .clamp(*KEEP_ALIVE_MS.start(), *KEEP_ALIVE_MS.end()),
    })
}

/// Why a client does not take a welcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unacceptable {
    /// A version that was not offered.
    #[error("the target chose version {0}, which was not offered")]
    Version(u16),
    /// A digest that was not offered.
    #[error("the target chose digest {0}, which was not offered")]
    Digest(Digest),
    /// A cipher that was not offered.
    #[error("the target chose cipher {0}, which was not offered")]
    Cipher(Cipher),
    /// Another session, queue or epoch than was asked for.
    #[error("the target let us into another session than the one to be joined")]
    Session,
    /// Another device than before.
    #[error("the export is another device now: {what} was {before}, is {now}")]
    OtherDevice {
        /// What differs.
        what: &'static str,
        /// Its value when the bdev was made.
        before: String,
        /// Its value now.
        now: String,
    },
    /// Shorter requests than the bdev has.
    #[error("the target takes {now} bytes at most now, the bdev was made for {longest}")]
    MaxTransfer {
        /// What it takes, bytes.
        now: u32,
        /// What the bdev was made for.
        longest: u32,
    },
    /// A volatile cache that was not there before.
    #[error(
        "the device has a volatile write cache now and had none when the bdev was made, so nobody would flush it"
    )]
    WriteCache,
}

/// Checks that a welcome chooses only what `hello` offered, and is for the session that it asked for.
///
/// # Errors
/// See [`Unacceptable`].
pub fn check_welcome(hello: &Hello, welcome: &Welcome) -> Result<(), Unacceptable> {
    if !(hello.versions.0..=hello.versions.1).contains(&welcome.version) {
        return Err(Unacceptable::Version(welcome.version));
    }
    if !hello.digests.contains(&welcome.digest.code()) {
        return Err(Unacceptable::Digest(welcome.digest));
    }
    if !hello.ciphers.contains(&welcome.cipher.code()) {
        return Err(Unacceptable::Cipher(welcome.cipher));
    }
    if hello.session.is_some_and(|asked| asked != welcome.session) {
        return Err(Unacceptable::Session);
    }
    Ok(())
}

/// Checks that a bdev that was made for one welcome, with requests of up to `longest` bytes, can be used as another one says.
///
/// # Errors
/// [`Unacceptable::MaxTransfer`]: the target takes less. [`Unacceptable::WriteCache`]: there is a volatile cache now, which
/// nobody above would flush.
pub fn check_still_usable(before: &Device, longest: u32, welcome: &Welcome) -> Result<(), Unacceptable> {
    if welcome.max_transfer < longest {
        return Err(Unacceptable::MaxTransfer { now: welcome.max_transfer, longest });
    }
    if welcome.device.write_cache && !before.write_cache {
        return Err(Unacceptable::WriteCache);
    }
    Ok(())
}

/// Returns the error that a device is another one than before.
fn other<T>(what: &'static str, before: impl ToString, now: impl ToString) -> Result<T, Unacceptable> {
    Err(Unacceptable::OtherDevice { what, before: before.to_string(), now: now.to_string() })
}

/// Checks that a device is the one from before, whatever its size.
///
/// # Errors
/// [`Unacceptable::OtherDevice`]: another UUID or block size.
pub fn check_same_device(before: &Device, now: &Device) -> Result<(), Unacceptable> {
    if before.uuid != now.uuid {
        return other("its UUID", format!("{:02x?}", before.uuid), format!("{:02x?}", now.uuid));
    }
    if before.block_size != now.block_size {
        return other("the block size", before.block_size, now.block_size);
    }
    Ok(())
}

/// Checks that a device is not smaller than the target last said.
///
/// For the control connection alone, which carries the events too: a channel's welcome may be older than an
/// event that overtook it on the control connection.
///
/// # Errors
/// [`Unacceptable::OtherDevice`]: a smaller size.
pub fn check_not_smaller(before: &Device, now: &Device) -> Result<(), Unacceptable> {
    if now.num_blocks < before.num_blocks {
        return other("the size in blocks", before.num_blocks, now.num_blocks);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dst_wire::SessionRef;

    const TERMS: Terms =
        Terms { credits_max: 32, keep_alive_max_ms: 60_000, require_digest: false, cipher: Cipher::None };

    fn hello() -> Hello {
        Hello {
            versions: (1, 1),
            export: "disk".to_owned(),
            host: "client".to_owned(),
            session: None,
            previous: None,
            credits: 64,
            digests: vec![0],
            ciphers: vec![0],
            keep_alive_ms: 3000,
        }
    }

    #[test]
    fn the_target_grants_what_it_has() {
        let agreed = agree(&hello(), &TERMS).unwrap();
        assert_eq!((agreed.credits, agreed.version, agreed.keep_alive_ms), (32, 1, 3000));
        let greedy = Hello { credits: u16::MAX, keep_alive_ms: 0, ..hello() };
        let agreed = agree(&greedy, &Terms { credits_max: u16::MAX, ..TERMS }).unwrap();
        assert_eq!((agreed.credits, agreed.keep_alive_ms), (CREDITS_MAX, *KEEP_ALIVE_MS.start()));
        assert_eq!(agree(&Hello { credits: 0, ..hello() }, &TERMS).unwrap().credits, 1);
        let patient = Hello { keep_alive_ms: u32::MAX, ..hello() };
        assert_eq!(agree(&patient, &TERMS).unwrap().keep_alive_ms, 60_000);
        assert_eq!(
            agree(&patient, &Terms { keep_alive_max_ms: 0, ..TERMS }).unwrap().keep_alive_ms,
            *KEEP_ALIVE_MS.start()
        );
    }

    fn device() -> Device {
        Device {
            uuid: [0; 16],
            num_blocks: 1,
            block_size: 512,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 0,
            write_cache: false,
            read_only: false,
            ops: dst_wire::OpSet::NONE,
        }
    }

    fn welcome(session: SessionRef) -> Welcome {
        Welcome {
            version: 1,
            instance: [0; 16],
            session,
            device: device(),
            previous_ended: false,
            cache_kept: false,
            credits: 1,
            max_transfer: 512,
            digest: Digest::None,
            cipher: Cipher::None,
            keep_alive_ms: 1000,
        }
    }

    #[test]
    fn a_welcome_is_for_the_session_that_was_asked_for() {
        let asked = SessionRef { id: [7; 16], queue: 2, epoch: 3 };
        let join = Hello { session: Some(asked), ..hello() };
        assert_eq!(check_welcome(&join, &welcome(asked)), Ok(()));
        for other in [
            SessionRef { id: [8; 16], ..asked },
            SessionRef { queue: 1, ..asked },
            SessionRef { epoch: 4, ..asked },
        ] {
            assert_eq!(check_welcome(&join, &welcome(other)), Err(Unacceptable::Session));
            assert_eq!(check_welcome(&hello(), &welcome(other)), Ok(()), "any new one will do");
        }
    }

    #[test]
    fn a_bdev_goes_on_with_what_it_was_made_for() {
        let (before, mut now) = (device(), welcome(SessionRef { id: [0; 16], queue: 0, epoch: 0 }));
        now.max_transfer = 4096;
        assert_eq!(check_still_usable(&before, 4096, &now), Ok(()));
        assert_eq!(
            check_still_usable(&before, 4097, &now),
            Err(Unacceptable::MaxTransfer { now: 4096, longest: 4097 })
        );
        now.device.write_cache = true;
        assert_eq!(check_still_usable(&before, 4096, &now), Err(Unacceptable::WriteCache));
        assert_eq!(check_still_usable(&now.device, 4096, &now), Ok(()));
        now.device.write_cache = false;
        let cached = Device { write_cache: true, ..before };
        assert_eq!(check_still_usable(&cached, 4096, &now), Ok(()), "flushes do no harm");
    }

    #[test]
    fn a_device_may_grow_and_change_in_nothing_else_that_says_which_it_is() {
        let before = Device { num_blocks: 8, ..device() };
        assert_eq!(check_same_device(&before, &before), Ok(()));
        for num_blocks in [7, 9] {
            assert_eq!(check_same_device(&before, &Device { num_blocks, ..before }), Ok(()));
        }
        assert_eq!(check_not_smaller(&before, &Device { num_blocks: 9, ..before }), Ok(()));
        let check =
            |now: &Device| check_same_device(&before, now).and_then(|()| check_not_smaller(&before, now));
        let differs = |now: Device| match check(&now) {
            Err(Unacceptable::OtherDevice { what, before, now }) => (what, before, now),
            other => panic!("{now:?} is taken for the same: {other:?}"),
        };
        let mut uuid = before.uuid;
        uuid[15] = 1;
        assert_eq!(differs(Device { uuid, ..before }).0, "its UUID");
        let told = |what, before: &str, now: &str| (what, before.to_owned(), now.to_owned());
        // Also a larger one, and with as many bytes in all.
        for (block_size, num_blocks) in [(4096, 8), (256, 16)] {
            let now = Device { block_size, num_blocks, ..before };
            assert_eq!(differs(now), told("the block size", "512", &block_size.to_string()));
        }
        assert_eq!(differs(Device { num_blocks: 7, ..before }), told("the size in blocks", "8", "7"));
    }

    #[test]
    fn demands_that_cannot_be_met_are_refused() {
        let reason = |hello: Hello| agree(&hello, &TERMS).unwrap_err().reason;
        assert_eq!(reason(Hello { versions: (2, 9), ..hello() }), RefusalReason::Version);
        assert_eq!(reason(Hello { versions: (1, 0), ..hello() }), RefusalReason::Version);
        assert_eq!(reason(Hello { digests: vec![9], ..hello() }), RefusalReason::Protection);
        assert_eq!(reason(Hello { ciphers: vec![], ..hello() }), RefusalReason::Protection);
    }

    #[test]
    fn the_cipher_is_the_one_that_the_connection_has() {
        let cipher = |ciphers: &[u8], cipher| {
            let terms = Terms { cipher, ..TERMS };
            agree(&Hello { ciphers: ciphers.to_vec(), ..hello() }, &terms).map(|agreed| agreed.cipher)
        };
        assert_eq!(cipher(&[2, 0], Cipher::Aes256Gcm), Ok(Cipher::Aes256Gcm));
        assert_eq!(cipher(&[2, 0], Cipher::None), Ok(Cipher::None));
        for (offered, is) in [(&[0][..], Cipher::Aes256Gcm), (&[2], Cipher::None), (&[2], Cipher::Aes128Gcm)]
        {
            assert_eq!(cipher(offered, is).unwrap_err().reason, RefusalReason::Protection);
        }
    }

    #[test]
    fn digests_are_the_clients_choice_unless_they_are_demanded() {
        let digest = |digests: &[u8], require_digest| {
            let terms = Terms { require_digest, ..TERMS };
            agree(&Hello { digests: digests.to_vec(), ..hello() }, &terms).map(|agreed| agreed.digest)
        };
        assert_eq!(digest(&[1, 0], false), Ok(Digest::Crc32c));
        assert_eq!(digest(&[0, 1], false), Ok(Digest::None));
        assert_eq!(digest(&[9, 0], false), Ok(Digest::None));
        assert_eq!(digest(&[0, 1], true), Ok(Digest::Crc32c));
        assert_eq!(digest(&[0], true).unwrap_err().reason, RefusalReason::Protection);
    }
}
