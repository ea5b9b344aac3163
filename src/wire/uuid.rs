//! UUIDs as people write them.

/// Returns a UUID as people write it: 8-4-4-4-12 hexadecimal digits.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_has_its_dashes() {
        let uuid = std::array::from_fn(|i| i as u8);
        assert_eq!(super::uuid_text(&uuid), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
