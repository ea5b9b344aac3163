//! SPDK's keyring, in versions that have one. It gives names to keys.

pub use spdk_contract::keyring::{KEYRING_MAX, KeyringError};
use zeroize::Zeroizing;

#[cfg(spdk_keyring)]
use crate::errno::Errno;

/// Reads the key that the keyring holds under this name now, so a replaced key takes effect at
/// once. Any thread may call it. It may read a file, so it must not be called where I/O waits.
///
/// # Errors
/// See [`KeyringError`].
#[cfg(spdk_keyring)]
pub fn read(name: &str) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let name = std::ffi::CString::new(name).map_err(|_| KeyringError::Missing)?;
    let mut bytes = Zeroizing::new(vec![0; KEYRING_MAX]);
    // SAFETY: the name is a C string; the call returns a reference, which is released below.
    let key = unsafe { spdk_sys::spdk_keyring_get_key(name.as_ptr()) };
    if key.is_null() {
        return Err(KeyringError::Missing);
    }
    // SAFETY: the key was obtained above, and the buffer has room for the size given. The reference
    // is not used afterwards.
    let len = unsafe {
        let len = spdk_sys::spdk_key_get_key(key, bytes.as_mut_ptr().cast(), KEYRING_MAX as i32);
        spdk_sys::spdk_keyring_put_key(key);
        len
    };
    match usize::try_from(len) {
        Ok(len) => {
            bytes.truncate(len);
            Ok(bytes)
        }
        Err(_) if -len == libc::ENOBUFS => Err(KeyringError::TooLong),
        Err(_) => Err(KeyringError::Get(Errno(-len))),
    }
}

/// Fails, since this version of SPDK has no keyring.
///
/// # Errors
/// Always.
#[cfg(not(spdk_keyring))]
pub fn read(_name: &str) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let (major, minor) = (spdk_sys::SPDK_VERSION_MAJOR, spdk_sys::SPDK_VERSION_MINOR);
    Err(KeyringError::NoKeyring(format!("{major}.{minor:02}")))
}
