//! The values of the command line that have a form of their own: hosts with their access, sizes,
//! endpoints, and the export that is to be attached.

use std::str::FromStr;

use clap::ValueEnum;

/// The access of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Access {
    /// Read.
    Ro,
    /// Read and write.
    Rw,
}

impl Access {
    /// Returns the name that the RPCs use.
    pub fn name(self) -> &'static str {
        match self {
            Access::Ro => "ro",
            Access::Rw => "rw",
        }
    }
}

/// A host and its access: `client1`, `client1=ro`, `client1=rw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAccess {
    pub host: String,
    pub access: Access,
}

impl FromStr for HostAccess {
    type Err = String;

    fn from_str(text: &str) -> Result<HostAccess, String> {
        let (host, access) = match text.rsplit_once('=') {
            None => (text, Access::Ro),
            Some((host, "ro")) => (host, Access::Ro),
            Some((host, "rw")) => (host, Access::Rw),
            Some((_, other)) => return Err(format!("{other:?} is neither ro nor rw")),
        };
        if host.is_empty() {
            return Err("the host's name is empty".to_owned());
        }
        Ok(HostAccess { host: host.to_owned(), access })
    }
}

/// A number of bytes: `512`, `10G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            other => return Err(format!("{other:?} is not a unit: K, M, G, and T are, for powers of 1024")),
        };
        let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is not a number"))?;
        let bytes = number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is too large"))?;
        if bytes == 0 { Err("the size is 0".to_owned()) } else { Ok(Size(bytes)) }
    }
}

/// An address and a port: `10.0.0.1:4420`, `[::1]:4420`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: String,
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let (address, port) =
            text.rsplit_once(':').ok_or_else(|| format!("{text:?} has no port: write ADDRESS:PORT"))?;
        let port: u16 = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
        if port == 0 {
            return Err("port 0 is not a port to connect to".to_owned());
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match bare {
            Some(address) => address,
            None if address.contains(':') => {
                return Err(format!(
                    "{address:?} is an IPv6 address without brackets: write [{address}]:{port}"
                ));
            }
            None => address,
        };
        if address.is_empty() {
            return Err(format!("{text:?} has no address"));
        }
        Ok(Endpoint { address: address.to_owned(), port })
    }
}

/// An export of a target, which may have several addresses: `10.0.0.1,10.0.1.1:4420/vol0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub addresses: Vec<String>,
    pub port: u16,
    pub export: String,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        let (target, export) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} names no export: write TARGET:PORT/EXPORT"))?;
        if export.is_empty() {
            return Err(format!("{text:?} names no export: write TARGET:PORT/EXPORT"));
        }
        let (others, last) = match target.rsplit_once(',') {
            Some((others, last)) => (others.split(',').collect(), last),
            None => (Vec::new(), target),
        };
        let last: Endpoint = last.parse()?;
        let mut addresses = Vec::new();
        for other in others {
            let bare = other.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(other);
            if bare.is_empty() {
                return Err(format!("{text:?} has an empty address"));
            }
            addresses.push(bare.to_owned());
        }
        addresses.push(last.address);
        Ok(Source { addresses, port: last.port, export: export.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse().map(|Size(bytes)| bytes);
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("10G"), Ok(10 << 30));
        assert_eq!(size("1tib"), Ok(1 << 40));
        for wrong in ["", "G", "10X", "-1", "0", "1.5G", "99999999999T", "ü"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sources() {
        let source = |text: &str| {
            text.parse()
                .map(|Source { addresses, port, export }| format!("{} {port} {export}", addresses.join("|")))
        };
        assert_eq!(source("10.0.0.1:4420/vol0").unwrap(), "10.0.0.1 4420 vol0");
        assert_eq!(source("[fe80::1%eth0]:1/a/b").unwrap(), "fe80::1%eth0 1 a/b");
        assert_eq!(source("[::1],storage,10.0.0.2:65535/v").unwrap(), "::1|storage|10.0.0.2 65535 v");
        for wrong in ["", "/", "a/b", ":1/v", "a:0/v", "a:65536/v", "::1:1/v", "a:1/", ",a:1/v", "[]:1/v"] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts() {
        let host = |text: &str| text.parse().map(|HostAccess { host, access }| (host, access.name()));
        assert_eq!(host("a"), Ok(("a".to_owned(), "ro")));
        assert_eq!(host("a=b=rw"), Ok(("a=b".to_owned(), "rw")));
        assert!(host("a=x").is_err() && host("=rw").is_err() && host("").is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_panics(text in "\\PC{0,24}") {
            let _ = (text.parse::<Size>(), text.parse::<Source>(), text.parse::<Endpoint>(), text.parse::<HostAccess>());
        }
    }
}
