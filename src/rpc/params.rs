//! Typed access to the parameters of an RPC, with errors that name the parameter.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use dst_client::{Family, Place};
use dst_session::access::KeySource;
use dst_transport::{KeyError, read_keys};
use dst_wire::{NAME_MAX, is_name};
use serde_json::{Map, Value};

use crate::cpumask;
use crate::error::{Result, RpcError};

/// The number of characters of a value that an error shows.
const SHOWN_MAX: usize = 64;

/// The maximum length of a file's path, in bytes: an error has room for the whole path.
const PATH_MAX: usize = 512;

/// The maximum number of addresses of one target.
const ADDRESSES_MAX: usize = 8;

/// The parameters of an RPC. Each is taken once, by the method of its type, and
/// [`Params::finish`] refuses those that were not taken.
#[derive(Debug)]
pub struct Params(Map<String, Value>);

impl Params {
    /// Takes the parameters of an RPC. If the RPC has none, this is an empty object.
    ///
    /// # Errors
    /// The parameters are not an object.
    pub fn new(params: Option<Value>) -> Result<Params> {
        match params {
            None | Some(Value::Null) => Ok(Params(Map::new())),
            Some(Value::Object(map)) => Ok(Params(map)),
            Some(other) => {
                Err(RpcError::invalid("params", format!("{} given, an object is wanted", kind(&other))))
            }
        }
    }

    /// Refuses parameters that were not taken.
    ///
    /// # Errors
    /// A parameter is left, so it is unknown.
    pub fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name = clip(&name.escape_debug().to_string());
                Err(RpcError::invalid(&name, "there is no such parameter"))
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// Takes a required string, for which [`is_name`] holds.
    pub fn text(&mut self, name: &str) -> Result<String> {
        self.opt_text(name)?.ok_or_else(|| RpcError::invalid(name, "missing"))
    }

    /// Takes an optional string, for which [`is_name`] holds.
    pub fn opt_text(&mut self, name: &str) -> Result<Option<String>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::String(text) = value else {
            return Err(RpcError::invalid(name, format!("{} given, a string is wanted", kind(&value))));
        };
        check_text(name, &text)?;
        Ok(Some(text))
    }

    /// Takes an optional UUID in its textual form (8-4-4-4-12 hexadecimal digits). The nil UUID is
    /// refused.
    pub fn opt_uuid(&mut self, name: &str) -> Result<Option<[u8; 16]>> {
        let Some(text) = self.opt_text(name)? else { return Ok(None) };
        let lens = [8, 4, 4, 4, 12];
        let is_uuid = text.split('-').map(str::len).eq(lens)
            && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        match u128::from_str_radix(&text.replace('-', ""), 16) {
            Ok(bits) if is_uuid && bits != 0 => Ok(Some(bits.to_be_bytes())),
            _ => Err(RpcError::invalid(name, format!("{text:?} is not a UUID of 8-4-4-4-12 digits"))),
        }
    }

    /// Takes an optional boolean.
    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => {
                Err(RpcError::invalid(name, format!("{} given, true or false is wanted", kind(&other))))
            }
        }
    }

    /// Takes an optional whole number in a range.
    pub fn number<T>(&mut self, name: &str, default: T, range: RangeInclusive<T>) -> Result<T>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let Some(value) = self.take(name) else { return Ok(default) };
        if !value.is_number() {
            return Err(RpcError::invalid(name, format!("{} given, a number is wanted", kind(&value))));
        }
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (value, low, high) = (show(&value), range.start(), range.end());
            let problem = format!("{value} is not a whole number from {low} to {high}");
            RpcError::invalid(name, problem)
        })
    }

    fn items(&mut self, name: &str, max: usize) -> Result<Vec<Value>> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) if items.len() <= max => Ok(items),
            Some(Value::Array(items)) => {
                let problem = format!("{} entries given, at most {max} are allowed", items.len());
                Err(RpcError::invalid(name, problem))
            }
            Some(other) => Err(RpcError::invalid(name, format!("{} given, a list is wanted", kind(&other)))),
        }
    }

    /// Takes an optional list of at most `max` strings that can be parsed as `T`.
    pub fn list<T>(&mut self, name: &str, max: usize) -> Result<Vec<T>>
    where
        T: FromStr<Err: Display>,
    {
        let texts = self.items(name, max)?.into_iter().map(|item| {
            let text = item.as_str().ok_or_else(|| {
                RpcError::invalid(name, format!("{} in the list, strings are wanted", kind(&item)))
            })?;
            check_text(name, text)?;
            text.parse().map_err(|error| RpcError::invalid(name, error))
        });
        texts.collect()
    }

    /// Takes an optional string, or list of at most `max` strings, that can be parsed as `T`.
    pub fn one_or_more<T>(&mut self, name: &str, max: usize) -> Result<Vec<T>>
    where
        T: FromStr<Err: Display>,
    {
        if let Some(value @ Value::String(_)) = self.0.get_mut(name) {
            *value = Value::Array(vec![value.take()]);
        }
        self.list(name, max)
    }

    /// Takes an optional list of at most `max` objects, each as parameters of its own.
    pub fn objects(&mut self, name: &str, max: usize) -> Result<Vec<Params>> {
        let objects = self.items(name, max)?.into_iter().map(|item| match item {
            Value::Object(fields) => Ok(Params(fields)),
            other => {
                let problem = format!("{} in the list, objects are wanted", kind(&other));
                Err(RpcError::invalid(name, problem))
            }
        });
        objects.collect()
    }

    /// Takes the required address `traddr`, which must have the family `adrfam` if that is given.
    pub fn address(&mut self) -> Result<IpAddr> {
        let text = self.text("traddr")?;
        let family = self.opt_text("adrfam")?;
        address(&text, family.as_deref())
    }

    /// Takes `traddr`: a string, or a list of 1 to [`ADDRESSES_MAX`] strings, each an address or
    /// the name of a host. Returns also the family `adrfam`, if it is given; all addresses have it.
    pub fn places(&mut self) -> Result<(Vec<Place>, Option<Family>)> {
        let texts = if matches!(self.0.get("traddr"), Some(Value::Array(_))) {
            self.list("traddr", ADDRESSES_MAX)?
        } else {
            vec![self.text("traddr")?]
        };
        if texts.is_empty() {
            return Err(RpcError::invalid("traddr", "an empty list given"));
        }
        let family = family(self.opt_text("adrfam")?.as_deref())?;
        let place = |text: &String| {
            let place: Place = text
                .parse()
                .map_err(|error| RpcError::invalid("traddr", format!("{} is {error}", quote(text))))?;
            if let Some(address) = place.address() {
                check_family(address.ip, family)?;
            }
            Ok(place)
        };
        Ok((texts.iter().map(place).collect::<Result<_>>()?, family))
    }

    /// Takes the optional port `trsvcid`.
    pub fn opt_port(&mut self) -> Result<Option<u16>> {
        if self.0.contains_key("trsvcid") { self.port().map(Some) } else { Ok(None) }
    }

    /// Takes the required port `trsvcid`: a string of digits, as in SPDK's own RPCs, or a number.
    pub fn port(&mut self) -> Result<u16> {
        let value = self.take("trsvcid").ok_or_else(|| RpcError::invalid("trsvcid", "missing"))?;
        let port = match &value {
            Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Value::String(_) => None,
            Value::Number(number) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
            other => {
                let problem = format!("{} given, a port is wanted", kind(other));
                return Err(RpcError::invalid("trsvcid", problem));
            }
        };
        port.filter(|&port| port > 0).ok_or_else(|| {
            RpcError::invalid("trsvcid", format!("{} is not a port from 1 to 65535", show(&value)))
        })
    }

    /// Takes a required set of CPUs: SPDK's mask (`0x6`) or list (`[1,2-3]`). Returns them in
    /// ascending order, each once; the machine has all of them.
    pub fn cpus(&mut self, name: &str) -> Result<Vec<u32>> {
        let value = self.take(name).ok_or_else(|| RpcError::invalid(name, "missing"))?;
        let Value::String(text) = &value else {
            return Err(RpcError::invalid(name, format!("{} given, a string is wanted", kind(&value))));
        };
        let problem = |problem: String| RpcError::invalid(name, format!("{}: {problem}", quote(text)));
        let cpus = cpumask::parse(text).map_err(|error| problem(error.to_owned()))?;
        match cpus.iter().find(|cpu| !spdk::cpu::may_use(**cpu)) {
            Some(cpu) => Err(problem(format!("this machine has no CPU {cpu}"))),
            None => Ok(cpus),
        }
    }

    /// Takes the optional socket implementation `sock_impl`, which SPDK must have.
    pub fn sock_impl(&mut self) -> Result<Option<String>> {
        let name = self.opt_text("sock_impl")?;
        if let Some(name) = &name
            && !spdk::sock::impl_exists(name)
        {
            let problem = format!("SPDK has no socket implementation {} here", quote(name));
            return Err(RpcError::invalid("sock_impl", problem));
        }
        Ok(name)
    }

    /// Takes an optional string that is one of `words`. Returns the value paired with it.
    pub fn one_of<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.opt_text(name)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(RpcError::invalid(name, format!("{} is none of {}", quote(&text), words.join(", "))))
            }
        }
    }

    /// Takes an optional absolute path.
    pub fn opt_path(&mut self, name: &str) -> Result<Option<String>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::String(path) = value else {
            return Err(RpcError::invalid(name, format!("{} given, a string is wanted", kind(&value))));
        };
        let is_path = path.starts_with('/') && path.len() <= PATH_MAX && !path.chars().any(char::is_control);
        if !is_path {
            let problem = format!(
                "{} is not an absolute path of at most {PATH_MAX} bytes without control characters",
                quote(&path)
            );
            return Err(RpcError::invalid(name, problem));
        }
        Ok(Some(path))
    }

    /// Takes the optional source of a key: a file, `psk_file`, or a name in SPDK's keyring, `psk`.
    fn named_key(&mut self) -> Result<Option<KeySource>> {
        match (self.opt_path("psk_file")?, self.opt_text("psk")?) {
            (None, None) => Ok(None),
            (Some(path), None) => Ok(Some(KeySource::File(path))),
            (None, Some(name)) => Ok(Some(KeySource::Keyring(name))),
            (Some(_), Some(_)) => {
                Err(RpcError::invalid("psk", "given together with psk_file, name one of them"))
            }
        }
    }

    /// Takes the optional source of a key, which must be usable now. The key is read again at each
    /// handshake.
    pub fn usable_key(&mut self) -> Result<Option<KeySource>> {
        self.key_unless(|_| true)
    }

    /// Takes the optional source of a key, which must be usable now, or not exist yet. The key is
    /// read at each handshake.
    pub fn key_that_may_come(&mut self) -> Result<Option<KeySource>> {
        self.key_unless(|why| !matches!(why, KeyError::Missing(_)))
    }

    fn key_unless(&mut self, is_refused: impl Fn(&KeyError) -> bool) -> Result<Option<KeySource>> {
        let Some(source) = self.named_key()? else { return Ok(None) };
        match read_keys(&source) {
            Err(why) if is_refused(&why) => Err(RpcError::invalid(source.parameter().0, why)),
            Ok(_) | Err(_) => Ok(Some(source)),
        }
    }
}

/// Parses an address, which has the family `family` if one is given.
fn address(text: &str, family: Option<&str>) -> Result<IpAddr> {
    let addr: IpAddr = text.parse().map_err(|_| {
        RpcError::invalid("traddr", format!("{} is not an IPv4 or IPv6 address", quote(text)))
    })?;
    check_family(addr, self::family(family)?)?;
    Ok(addr)
}

/// Returns the family that `adrfam` names.
fn family(text: Option<&str>) -> Result<Option<Family>> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("ipv4") => Ok(Some(Family::V4)),
        Some("ipv6") => Ok(Some(Family::V6)),
        Some(other) => {
            let problem = format!("{} is neither ipv4 nor ipv6", quote(other));
            Err(RpcError::invalid("adrfam", problem))
        }
    }
}

fn check_family(addr: IpAddr, family: Option<Family>) -> Result<()> {
    match family {
        Some(family) if !family.has(addr) => {
            let problem = format!("{} given, but traddr {addr} is of the other family", family.name());
            Err(RpcError::invalid("adrfam", problem))
        }
        _ => Ok(()),
    }
}

fn check_text(name: &str, text: &str) -> Result<()> {
    if is_name(text) {
        return Ok(());
    }
    let problem = format!("{} is not 1 to {NAME_MAX} bytes without control characters", quote(text));
    Err(RpcError::invalid(name, problem))
}

/// Returns a text, or the beginning of a long one.
fn clip(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
    }
}

/// Returns a text in quotes, with unprintable characters escaped.
fn quote(text: &str) -> String {
    clip(&format!("{text:?}"))
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => clip(&other.to_string()),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    fn params(value: Value) -> Params {
        Params::new(Some(value)).unwrap()
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn values_are_shown_shortened_and_escaped() {
        let text = message(params(json!({ "name": "x".repeat(5000) })).text("name"));
        assert!(text.starts_with("name: \"xxx") && text.contains("(5002 bytes)"), "{text}");
        assert!(text.len() < 200, "{text}");
        let text = message(params(json!({ "name": "a\nb" })).text("name"));
        assert!(text.starts_with(r#"name: "a\nb" is not"#), "{text}");
        let text = message(params(json!({ "a\nb": 1 })).finish());
        assert_eq!(text, r"a\nb: there is no such parameter");
        assert_eq!(clip(&"ä".repeat(65)).matches('ä').count(), SHOWN_MAX);
    }

    #[test]
    fn numbers_are_whole_and_in_range() {
        let number = |value: Value| params(json!({ "n": value })).number("n", 7u16, 1..=4096);
        assert_eq!(number(json!(4096)), Ok(4096));
        assert_eq!(params(json!({})).number("n", 7u16, 1..=4096), Ok(7));
        for bad in [json!(0), json!(4097), json!(-1), json!(1.5), json!(65_537), json!(u64::MAX), json!(1e30)]
        {
            let wanted = format!("n: {bad} is not a whole number from 1 to 4096");
            assert_eq!(message(number(bad)), wanted);
        }
        assert_eq!(message(number(Value::Null)), "n: null given, a number is wanted");
    }

    #[test]
    fn cpus_are_some_of_the_machine() {
        let cpus = |value: Value| params(json!({ "mask": value })).cpus("mask");
        assert_eq!((cpus(json!("0x1")), cpus(json!("[]"))), (Ok(vec![0]), Ok(vec![])));
        assert_eq!(message(cpus(json!("[0,1023]"))), r#"mask: "[0,1023]": this machine has no CPU 1023"#);
        assert_eq!(
            message(cpus(json!("[2-1]"))),
            r#"mask: "[2-1]": a range goes from the lower to the higher number"#
        );
        assert_eq!(message(cpus(json!(6))), "mask: a number given, a string is wanted");
        assert_eq!(message(params(json!({})).cpus("mask")), "mask: missing");
        let text = message(cpus(json!(format!("a\n{}", "f".repeat(5000)))));
        assert!(text.starts_with(r#"mask: "a\nff"#) && text.len() < 200, "{text}");
    }

    #[test]
    fn a_word_is_one_of_the_known_ones() {
        let one_of = |value: Value| params(json!({ "x": value })).one_of("x", &[("a", 1), ("b", 2)]);
        assert_eq!(one_of(json!("b")), Ok(Some(2)));
        assert_eq!(params(json!({})).one_of("x", &[("a", 1), ("b", 2)]), Ok(None));
        assert_eq!(message(one_of(json!("c"))), r#"x: "c" is none of a, b"#);
    }

    #[test]
    fn a_key_is_in_a_file_or_has_a_name() {
        let named = |value: Value| params(value).named_key();
        assert_eq!(named(json!({})), Ok(None));
        for bad in ["", "key", "./key", "/a\nb", &"/x".repeat(PATH_MAX)] {
            let text = message(named(json!({ "psk_file": bad })));
            assert!(text.contains("is not an absolute path"), "{text}");
        }
        assert_eq!(message(named(json!({ "psk_file": 1 }))), "psk_file: a number given, a string is wanted");
        assert_eq!(named(json!({ "psk_file": "/k" })), Ok(Some(KeySource::File("/k".to_owned()))));
        assert_eq!(named(json!({ "psk": "key0" })), Ok(Some(KeySource::Keyring("key0".to_owned()))));
        let both = named(json!({ "psk_file": "/k", "psk": "key0" }));
        assert_eq!(message(both), "psk: given together with psk_file, name one of them");
    }
}
