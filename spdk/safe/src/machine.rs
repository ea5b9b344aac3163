//! The machine that the process runs on, and its last boot.

use std::fs;

/// Returns the id of the machine's last boot, which the kernel draws at random, or `None` if it can't
/// be read.
pub fn boot_id() -> Option<String> {
    read("/proc/sys/kernel/random/boot_id")
}

/// Returns the id that the machine has had since its installation (`machine-id(5)`), or `None` if it
/// has none, or not yet. A copy of a disk has the same id.
pub fn machine_id() -> Option<String> {
    let is_id = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    read("/etc/machine-id").filter(is_id)
}

fn read(path: &str) -> Option<String> {
    let id = fs::read_to_string(path).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_boot_has_one_id() {
        let id = super::boot_id().unwrap();
        assert_eq!((id.len(), super::boot_id()), (36, Some(id)));
        assert_eq!(super::read("/nowhere"), None);
    }
}
