//! Typed access to a call's parameters, with errors that name the parameter.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use dst_wire::hello::NAME_MAX;
use serde_json::{Map, Value};

/// JSON-RPC's code for parameters that can't be used.
const INVALID_PARAMS: i32 = -32602;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// JSON-RPC's code, or a negative errno.
    pub code: i32,
    /// What was wrong, with which value.
    pub message: String,
}

impl RpcError {
    /// A parameter that can't be used.
    pub fn invalid(parameter: &str, problem: impl Display) -> RpcError {
        RpcError { code: INVALID_PARAMS, message: format!("{parameter}: {problem}") }
    }
}

impl From<dst_target::Error> for RpcError {
    fn from(error: dst_target::Error) -> RpcError {
        RpcError { code: error.code(), message: error.to_string() }
    }
}

impl From<dst_client::Error> for RpcError {
    fn from(error: dst_client::Error) -> RpcError {
        RpcError { code: error.code(), message: error.to_string() }
    }
}

/// Result of an RPC's decoding.
pub type Result<T> = std::result::Result<T, RpcError>;

/// A call's parameters. Each is taken out once; [`Params::finish`] refuses what is left.
#[derive(Debug)]
pub struct Params(Map<String, Value>);

impl Params {
    /// The parameters of a call; none given is none there.
    ///
    /// # Errors
    /// They are not an object.
    pub fn new(params: Option<Value>) -> Result<Params> {
        match params {
            None | Some(Value::Null) => Ok(Params(Map::new())),
            Some(Value::Object(map)) => Ok(Params(map)),
            Some(other) => {
                Err(RpcError::invalid("params", format!("{} given, an object is wanted", kind(&other))))
            }
        }
    }

    /// Refuses parameters that nobody has taken.
    ///
    /// # Errors
    /// There is one.
    pub fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(RpcError::invalid(name, "there is no such parameter")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// A text that must be there: 1 to 223 bytes without control characters.
    pub fn text(&mut self, name: &str) -> Result<String> {
        self.opt_text(name)?.ok_or_else(|| RpcError::invalid(name, "missing"))
    }

    /// A text that may be there.
    pub fn opt_text(&mut self, name: &str) -> Result<Option<String>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::String(text) = value else {
            return Err(RpcError::invalid(name, format!("{} given, a string is wanted", kind(&value))));
        };
        if text.is_empty() || text.len() > NAME_MAX || text.chars().any(char::is_control) {
            let problem = format!("{text:?} is not 1 to {NAME_MAX} bytes of printable text");
            return Err(RpcError::invalid(name, problem));
        }
        Ok(Some(text))
    }

    /// A truth value that may be there.
    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => {
                Err(RpcError::invalid(name, format!("{} given, true or false is wanted", kind(&other))))
            }
        }
    }

    /// A whole number in a range, that may be there.
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
            let problem = format!("{value} is not a whole number from {} to {}", range.start(), range.end());
            RpcError::invalid(name, problem)
        })
    }

    /// A list of texts of a kind, that may be there.
    pub fn list<T>(&mut self, name: &str, max: usize) -> Result<Vec<T>>
    where
        T: FromStr<Err: Display>,
    {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let Value::Array(items) = value else {
            return Err(RpcError::invalid(name, format!("{} given, a list is wanted", kind(&value))));
        };
        if items.len() > max {
            return Err(RpcError::invalid(
                name,
                format!("{} entries given, at most {max} are allowed", items.len()),
            ));
        }
        items
            .iter()
            .map(|item| {
                let text = item.as_str().ok_or_else(|| {
                    RpcError::invalid(name, format!("{} in the list, strings are wanted", kind(item)))
                })?;
                text.parse().map_err(|error| RpcError::invalid(name, error))
            })
            .collect()
    }

    /// The address of `traddr`, of the family of `adrfam` if that is there.
    pub fn address(&mut self) -> Result<IpAddr> {
        let text = self.text("traddr")?;
        let family = self.opt_text("adrfam")?;
        let addr: IpAddr = text
            .parse()
            .map_err(|_| RpcError::invalid("traddr", format!("{text:?} is not an IPv4 or IPv6 address")))?;
        let fits = match family.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None => true,
            Some("ipv4") => addr.is_ipv4(),
            Some("ipv6") => addr.is_ipv6(),
            Some(other) => {
                return Err(RpcError::invalid("adrfam", format!("{other:?} is neither ipv4 nor ipv6")));
            }
        };
        if !fits {
            let family = family.unwrap_or_default();
            return Err(RpcError::invalid("adrfam", format!("{family} given, traddr {addr} is none")));
        }
        Ok(addr)
    }

    /// The port of `trsvcid`: a string of digits as SPDK has it, or a number.
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
        port.filter(|&port| port > 0)
            .ok_or_else(|| RpcError::invalid("trsvcid", format!("{value} is not a port from 1 to 65535")))
    }

    /// The socket implementation of `sock_impl`, if it is there: one that SPDK has.
    pub fn sock_impl(&mut self) -> Result<Option<String>> {
        let name = self.opt_text("sock_impl")?;
        if let Some(name) = &name
            && !spdk::sock::impl_exists(name)
        {
            let problem = format!("SPDK has no socket implementation {name:?} here");
            return Err(RpcError::invalid("sock_impl", problem));
        }
        Ok(name)
    }

    /// A parameter of something that this version does not have: only its value for "off" may be given.
    pub fn not_yet(&mut self, name: &str, off: Value) -> Result<()> {
        match self.take(name) {
            None => Ok(()),
            Some(value) if value == off => Ok(()),
            Some(value) => {
                let problem = format!("{value} is not supported in this version, leave it out");
                Err(RpcError::invalid(name, problem))
            }
        }
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
