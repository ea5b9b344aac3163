//! The default host name of clients.

use dst_wire::Crc32c;

/// Returns this machine's name and a checksum of its id. Cloned machines often have the same name,
/// and clients with the same host name take each other's sessions over.
pub fn default_host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    compose(name.trim(), id.trim())
}

/// Returns the default host name for a machine's name and id. The id itself is confidential
/// (machine-id(5)), so only a checksum of it is shown.
fn compose(name: &str, id: &str) -> String {
    let name = if name.is_empty() { "localhost" } else { name };
    if id.is_empty() {
        return name.to_owned();
    }
    format!("{name}-{:08x}", Crc32c::of(format!("DST host {id}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_with_the_same_name_are_told_apart() {
        let (one, other) = (compose("node", "0123456789abcdef"), compose("node", "0123456789abcdee"));
        assert!(one != other && one.starts_with("node-") && !one.contains("0123"), "{one}");
        assert_eq!(one, compose("node", "0123456789abcdef"), "the same after each start");
        assert_eq!((compose("node", ""), compose("", "")), ("node".to_owned(), "localhost".to_owned()));
    }
}
