//! The target's choice from what a hello offers, and the client's checks of the welcome.

use dst_wire::{
    CREDITS_MAX, Cipher, Claim, Device, Digest, Hello, KEEP_ALIVE_MS, Refusal, RefusalReason, VERSION,
    Welcome, uuid_text,
};
use thiserror::Error;

use crate::mutation;

/// What the target has chosen from a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The protocol version.
    pub version: u16,
    /// The number of slots granted.
    pub credits: u16,
    /// The digest.
    pub digest: Digest,
    /// The cipher.
    pub cipher: Cipher,
    /// The keep-alive time, ms.
    pub keep_alive_ms: u32,
    /// Whether the client may abort requests.
    pub aborts: bool,
}

/// Returns a refusal. If the text is too long, encoding truncates it.
pub fn refuse(reason: RefusalReason, text: impl Into<String>) -> Refusal {
    Refusal { reason, text: text.into(), ownership: None }
}

/// What a target grants and requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The maximum number of slots.
    pub credits_max: u16,
    /// The longest keep-alive time, ms.
    pub keep_alive_max_ms: u32,
    /// Whether data must have digests.
    pub require_digest: bool,
    /// The cipher that already secures the connection.
    pub cipher: Cipher,
}

/// Chooses from what a client offers. Of the digests that the target has, it takes the one that the
/// client prefers.
///
/// # Errors
/// The refusal to send if the two sides have nothing in common.
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
            "the export requires a data digest (CRC32C), which the client does not offer"
        } else {
            "the target has none of the data digests that the client offers"
        };
        return Err(refuse(RefusalReason::Protection, text));
    };
    // The cipher was agreed when the connection was secured. A client that asks for another one
    // here is refused.
    if !hello.ciphers.contains(&terms.cipher.code()) {
        let text = format!(
            "the connection is secured with the cipher {}, which the hello does not offer",
            terms.cipher
        );
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
        aborts: hello.aborts && !mutation::has_no_aborts(),
    })
}

/// The reason why a client rejects a welcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unacceptable {
    /// The client did not offer the version.
    #[error("the target chose version {0}, which was not offered")]
    Version(u16),
    /// The client did not offer the digest.
    #[error("the target chose digest {0}, which was not offered")]
    Digest(Digest),
    /// The client did not offer the cipher.
    #[error("the target chose cipher {0}, which was not offered")]
    Cipher(Cipher),
    /// The session, the queue or the epoch is not the one asked for.
    #[error("the target's welcome is for another session than the client asked to join")]
    Session,
    /// The session does not have the ownership that was claimed.
    #[error(
        "the target let the client share the export, which the client wants to own: the target is too old for that"
    )]
    Shared,
    /// The session has another ownership than the client claimed.
    #[error("the target's welcome is for ownership {0} of the export, which the client did not claim")]
    Ownership(u64),
    /// The client did not offer aborts.
    #[error("the target lets the client abort requests, which was not offered")]
    Aborts,
    /// The device is not the same as before.
    #[error("the export is another device now: {what} was {before}, is {now}")]
    OtherDevice {
        /// The property that differs.
        what: &'static str,
        /// Its value when the bdev was created.
        before: String,
        /// Its value now.
        now: String,
    },
    /// The maximum transfer is below the bdev's largest request.
    #[error("the target's maximum transfer is {now} bytes now, but the bdev was created for {longest}")]
    MaxTransfer {
        /// The target's maximum transfer, bytes.
        now: u32,
        /// The bdev's largest request, bytes.
        longest: u32,
    },
    /// The device has a volatile cache that it did not have before.
    #[error(
        "the device has a volatile write cache now, but had none when the bdev was created, so nobody would flush it"
    )]
    WriteCache,
}

/// Checks that a welcome chooses only what `hello` offered, names the session that `hello` asked to
/// join, and gives a new session the ownership that `hello` claimed.
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
    if welcome.aborts && !hello.aborts {
        return Err(Unacceptable::Aborts);
    }
    if hello.session.is_some_and(|asked| asked != welcome.session) {
        return Err(Unacceptable::Session);
    }
    match (hello.claim.filter(|_| hello.session.is_none()), welcome.ownership) {
        (None, _) => Ok(()),
        (Some(Claim::Held(number)), Some(granted)) if granted == number => Ok(()),
        (Some(Claim::Next { after, .. }), Some(granted)) if granted > after => Ok(()),
        (Some(_), Some(granted)) => Err(Unacceptable::Ownership(granted)),
        (Some(_), None) => Err(Unacceptable::Shared),
    }
}

/// Checks that a bdev that was created for one welcome, with requests of up to `longest` bytes, can
/// be used with another welcome.
///
/// # Errors
/// [`Unacceptable::MaxTransfer`]: the target accepts less. [`Unacceptable::WriteCache`]: the device
/// has a volatile cache now, which nobody above would flush.
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
        return other("its UUID", uuid_text(&before.uuid), uuid_text(&now.uuid));
    }
    if before.block_size != now.block_size {
        return other("the block size", before.block_size, now.block_size);
    }
    Ok(())
}

/// Checks that a device is not smaller than the target last said.
///
/// For the control connection alone, which carries the events too: a channel's welcome may be older
/// than an event that overtook it on the control connection.
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
            claim: None,
            credits: 64,
            digests: vec![0],
            ciphers: vec![0],
            keep_alive_ms: 3000,
            aborts: false,
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
        for aborts in [false, true] {
            assert_eq!(agree(&Hello { aborts, ..hello() }, &TERMS).unwrap().aborts, aborts);
        }
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
            ownership: None,
            credits: 1,
            max_transfer: 512,
            digest: Digest::None,
            cipher: Cipher::None,
            keep_alive_ms: 1000,
            aborts: false,
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
    fn a_welcome_gives_the_ownership_that_was_claimed() {
        let at = SessionRef { id: [7; 16], queue: 0, epoch: 0 };
        let checked = |claim, ownership| {
            let hello = Hello { claim: Some(claim), ..hello() };
            check_welcome(&hello, &Welcome { ownership, ..welcome(at) })
        };
        let next = |takeover| Claim::Next { after: 4, takeover };
        for claim in [Claim::Held(5), next(false), next(true), Claim::Inquiry] {
            assert_eq!(checked(claim, None), Err(Unacceptable::Shared), "{claim:?}");
        }
        for claim in [Claim::Held(5), next(false), next(true)] {
            assert_eq!(checked(claim, Some(5)), Ok(()), "{claim:?}");
            assert_eq!(checked(claim, Some(4)), Err(Unacceptable::Ownership(4)), "{claim:?}");
        }
        assert_eq!(checked(Claim::Held(5), Some(6)), Err(Unacceptable::Ownership(6)));
        let joins = Hello { session: Some(at), claim: Some(Claim::Held(5)), ..hello() };
        assert_eq!(check_welcome(&joins, &welcome(at)), Ok(()), "whoever joins a session has what it has");
    }

    #[test]
    fn a_target_cannot_choose_aborts_that_were_not_offered() {
        let chosen = Welcome { aborts: true, ..welcome(SessionRef { id: [0; 16], queue: 0, epoch: 0 }) };
        assert_eq!(check_welcome(&hello(), &chosen), Err(Unacceptable::Aborts));
        assert_eq!(check_welcome(&Hello { aborts: true, ..hello() }, &chosen), Ok(()));
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
        // A larger device is rejected too, and one of the same size in bytes.
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
