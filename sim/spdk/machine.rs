//! The machine that a process runs on. Machines are not restarted here, and no process finds files of
//! another machine.

/// Returns the id of the machine's last boot.
pub fn boot_id() -> Option<String> {
    Some("b0".to_owned())
}

/// Returns the id of the machine.
pub fn machine_id() -> Option<String> {
    Some("a0".to_owned())
}
