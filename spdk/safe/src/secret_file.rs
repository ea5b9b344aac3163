//! Files with secrets, which are read only if no other user may read or write them.
//!
//! Only the file is checked, not the folders above it. A user who may write to one of them can
//! replace the file by another one that passes the checks.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

pub use spdk_contract::secret_file::{SECRET_FILE_MAX, SecretFileError};
use zeroize::Zeroizing;

/// The permission bits of users other than the owner.
const OTHERS: u32 = 0o077;

/// The permission bits that errors show.
const PERMISSIONS: u32 = 0o7777;

/// Reads a file that holds a secret. Any thread may call it. It makes a few system calls, so it
/// must not be called where I/O waits.
///
/// # Errors
/// See [`SecretFileError`]. The file must be regular, have at most [`SECRET_FILE_MAX`] bytes,
/// belong to the process's user or to root, and grant no rights to other users.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    // The opened file is checked, not the name, which may be another file's by then. O_NONBLOCK
    // keeps a FIFO from waiting for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(SecretFileError::Open)?;
    let metadata = file.metadata().map_err(SecretFileError::Read)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile(kind(metadata.file_type())));
    }
    if metadata.mode() & OTHERS != 0 {
        return Err(SecretFileError::OpenToOthers(metadata.mode() & PERMISSIONS));
    }
    check_owner(metadata.uid(), user())?;
    if metadata.len() > SECRET_FILE_MAX as u64 {
        return Err(SecretFileError::TooLong(metadata.len()));
    }
    read_whole(file)
}

/// Reads the whole file into one buffer of fixed size, since a growing buffer would leave copies
/// behind.
fn read_whole(mut file: File) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_FILE_MAX + 1]);
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SecretFileError::Read(error)),
        }
    }
    // The file may have grown since it was checked.
    if len > SECRET_FILE_MAX {
        return Err(SecretFileError::TooLong(len as u64));
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn check_owner(owner: u32, user: u32) -> Result<(), SecretFileError> {
    const ROOT: u32 = 0;
    if owner == user || owner == ROOT { Ok(()) } else { Err(SecretFileError::OtherOwner { owner, user }) }
}

/// Returns the user whose files this process may use. (The owner of `/proc/self` would not do: it
/// is root if the executable has capabilities.)
fn user() -> u32 {
    // SAFETY: asks the kernel for a number; can't fail.
    unsafe { libc::geteuid() }
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_char_device() || file_type.is_block_device() {
        "a device"
    } else {
        "not a file"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs::{self, Permissions};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use tempfile::TempDir;

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Folder {
            Folder(tempfile::tempdir().unwrap())
        }

        fn file(&self, content: &[u8], mode: u32) -> PathBuf {
            let path = self.0.path().join("key");
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    fn problem(path: &Path) -> String {
        read(path).unwrap_err().to_string()
    }

    #[test]
    fn a_private_file_is_read_whole() {
        let folder = Folder::new();
        for content in [&b""[..], b"x", &[7; SECRET_FILE_MAX]] {
            assert_eq!(*read(&folder.file(content, 0o600)).unwrap(), content);
        }
        assert_eq!(*read(&folder.file(b"x", 0o400)).unwrap(), b"x");
    }

    #[test]
    fn who_else_may_use_it_is_looked_at() {
        let folder = Folder::new();
        for mode in [0o601, 0o602, 0o604, 0o610, 0o620, 0o640] {
            let text = problem(&folder.file(b"secret", mode));
            assert!(
                text.starts_with(&format!("has mode {mode:04o}")) && text.contains("chmod 600"),
                "{text}"
            );
        }
    }

    #[test]
    fn it_belongs_to_us_or_to_root() {
        assert!(check_owner(7, 7).is_ok() && check_owner(0, 7).is_ok() && check_owner(0, 0).is_ok());
        let text = check_owner(7, 0).unwrap_err().to_string();
        assert!(text.contains("user 7") && text.contains("as user 0"), "{text}");
        assert!(check_owner(7, 8).is_err());
        let folder = Folder::new();
        let path = folder.file(b"secret", 0o600);
        assert_eq!(fs::metadata(&path).unwrap().uid(), user());
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(user() + 1), None).is_ok() {
            assert!(problem(&path).starts_with(&format!("belongs to user {}", user() + 1)));
        }
    }

    #[test]
    fn long_ones_are_not_read() {
        let folder = Folder::new();
        let path = folder.file(&[7; SECRET_FILE_MAX + 1], 0o600);
        assert!(problem(&path).starts_with("has 4097 bytes"));
        // A file that grew after it was checked.
        assert!(matches!(read_whole(File::open(&path).unwrap()), Err(SecretFileError::TooLong(4097))));
    }

    #[test]
    fn what_is_no_file_is_said_so_at_once() {
        let folder = Folder::new();
        assert!(problem(&folder.0.path().join("nowhere")).starts_with("can't be opened: No such file"));
        assert!(problem(folder.0.path()).starts_with("is a directory"));
        assert!(problem(Path::new("/dev/null")).starts_with("is a device"));
        let fifo = folder.0.path().join("fifo");
        let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name ends with a NUL and lives until after the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(problem(&fifo).starts_with("is a FIFO"), "the read must not wait for a writer");
    }
}
