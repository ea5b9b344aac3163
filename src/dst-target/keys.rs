//! Reads the keys of entries, and remembers failures, so that an operator sees why a host is
//! refused.

use std::cell::RefCell;
use std::collections::BTreeMap;

use dst_security::Psk;
use dst_session::access::KeySource;
use dst_transport::{KeyError, read_keys};

/// Reads keys and remembers for each source whether the last attempt failed. The keys themselves
/// are never kept.
#[derive(Debug, Default)]
pub struct KeyReader {
    failures: RefCell<BTreeMap<KeySource, String>>,
}

impl KeyReader {
    /// Returns the keys that `source` has now.
    ///
    /// # Errors
    /// Fails as [`KeyError`] says.
    pub fn read(&self, source: &KeySource) -> Result<Vec<Psk>, KeyError> {
        let read = read_keys(source);
        let mut failures = self.failures.borrow_mut();
        match &read {
            Ok(_) => drop(failures.remove(source)),
            Err(why) => drop(failures.insert(source.clone(), why.to_string())),
        }
        read
    }

    /// Returns the reason for which the keys of `source` can't be read, if the last attempt failed
    /// and another one fails as well. Keys that could be read the last time are not read again.
    pub fn failure(&self, source: &KeySource) -> Option<String> {
        let has_failed = self.failures.borrow().contains_key(source);
        has_failed.then(|| self.read(source).err()).flatten().map(|why| why.to_string())
    }

    /// Forgets a source whose entry is gone.
    pub fn forget(&self, source: &KeySource) {
        self.failures.borrow_mut().remove(source);
    }
}

// The simulator has no files of this machine.
#[cfg(all(test, not(feature = "simulator")))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_comes_later_is_found() {
        let path = std::env::temp_dir().join(format!("dst-target-keys-{}", std::process::id()));
        let source = KeySource::File(path.to_str().unwrap().to_owned());
        let keys = KeyReader::default();
        assert_eq!(keys.failure(&source), None, "it was never read");
        assert!(matches!(keys.read(&source), Err(KeyError::Missing(_))));
        assert!(keys.failure(&source).is_some_and(|why| why.contains("No such file")));
        fs::write(&path, "DST-PSK-1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(keys.read(&source), Err(KeyError::Unusable(_))));
        assert!(keys.failure(&source).is_some_and(|why| why.contains("there is no key in it")));
        fs::write(&path, format!("DST-PSK-1\n{}\n", "01".repeat(32))).unwrap();
        assert_eq!(keys.failure(&source), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(keys.failure(&source), None, "what could be read is not read again");
        assert!(keys.read(&source).is_err());
        keys.forget(&source);
        assert!(keys.failures.borrow().is_empty());
    }
}
