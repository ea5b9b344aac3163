//! The entries of access lists: decoding, showing and saving.

use dst_session::access::{Access, Host};
use dst_target::{Error, HOSTS_MAX, Rejection};
use serde_json::{Value, json};

use crate::answers::call;
use crate::error::{Result, RpcError};
use crate::params::Params;

/// The maximum number of address prefixes of one entry.
const PREFIXES_MAX: usize = 512;

/// The maximum number of JSON values in the entries of one saved RPC. SPDK's limit for an RPC is
/// 1,024, where a field of an object counts as two values.
const VALUES_MAX: usize = 960;

/// The maximum length of the entries of one saved RPC in bytes. SPDK's limit for an RPC is 32 KiB,
/// and SPDK writes a character of two bytes as six.
const BYTES_MAX: usize = 10 << 10;

/// Takes the parameters of an entry.
pub fn take_entry(params: &mut Params) -> Result<Host> {
    let name = params.text("host")?;
    let access = match params.text("access")?.as_str() {
        "ro" => Access::ReadOnly,
        "rw" => Access::ReadWrite,
        other => return Err(RpcError::invalid("access", format!("{other:?} is neither ro nor rw"))),
    };
    let access = match (params.flag("takeover", false)?, access) {
        (false, access) => access,
        (true, Access::ReadOnly) => {
            return Err(RpcError::invalid("takeover", "a host that takes over needs access rw"));
        }
        (true, Access::ReadWrite | Access::TakeOver) => Access::TakeOver,
    };
    let addresses = params.list("addresses", PREFIXES_MAX)?;
    let keys = params.key_that_may_come()?;
    Ok(Host { name, access, addresses, keys })
}

/// Takes the entries of a new export.
pub fn take_entries(params: &mut Params) -> Result<Vec<Host>> {
    let entries = params.objects("hosts", HOSTS_MAX)?;
    let taken = entries.into_iter().zip(1..).map(|(mut entry, number)| {
        let host = take_entry(&mut entry).and_then(|host| entry.finish().map(|()| host));
        host.map_err(|error| RpcError::invalid("hosts", format!("entry {number}: {}", error.message)))
    });
    taken.collect()
}

/// Returns the error of a method that has the entries in its parameter `hosts`.
pub fn of_hosts(error: Error) -> RpcError {
    match error {
        Error::Rejected(
            Rejection::HostExists { .. } | Rejection::NeedsKey { .. } | Rejection::TooManyHosts { .. },
        ) => RpcError { code: -error.errno().0, message: format!("hosts: {error}") },
        other => other.into(),
    }
}

fn show_access(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite | Access::TakeOver => "rw",
    }
}

/// Returns an entry as the parameters of the RPC that creates it.
pub fn show_entry(host: &Host) -> Value {
    let mut shown = json!({
        "host": host.name,
        "access": show_access(host.access),
        "addresses": host.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if host.access == Access::TakeOver {
        shown["takeover"] = json!(true);
    }
    if let Some(keys) = &host.keys {
        let (name, value) = keys.parameter();
        shown[name] = json!(value);
    }
    shown
}

/// Returns the RPCs that create an export with these entries: a single one if SPDK can parse it, since
/// SPDK takes several milliseconds for each RPC.
pub fn saved(export: &str, mut params: Value, hosts: &[Host]) -> Vec<Value> {
    let entries: Vec<Value> = hosts.iter().map(show_entry).collect();
    let mut room = (VALUES_MAX, BYTES_MAX);
    let fits = |entry: &&Value| {
        let left = (room.0.checked_sub(values(entry)), room.1.checked_sub(entry.to_string().len()));
        let (Some(values), Some(bytes)) = left else { return false };
        room = (values, bytes);
        true
    };
    let first: Vec<&Value> = entries.iter().take_while(fits).collect();
    let rest = &entries[first.len()..];
    if !first.is_empty() {
        params["hosts"] = json!(first);
    }
    let add = |entry: &Value| {
        let mut params = entry.clone();
        params["export"] = json!(export);
        call("dst_export_add_host", params)
    };
    [call("dst_create_export", params)].into_iter().chain(rest.iter().map(add)).collect()
}

/// Returns the number of values that SPDK's parser makes of a value. Lists and objects have a begin
/// and an end, and names count too.
fn values(value: &Value) -> usize {
    match value {
        Value::Array(items) => 2 + items.iter().map(values).sum::<usize>(),
        Value::Object(fields) => 2 + fields.values().map(|value| 1 + values(value)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize, prefixes: usize) -> Host {
        let addresses = (0..prefixes).map(|_| "192.0.2.1".parse().unwrap()).collect();
        Host { name: format!("host{number}"), access: Access::ReadWrite, addresses, keys: None }
    }

    fn saved(hosts: &[Host]) -> Vec<Value> {
        super::saved("disk", json!({ "name": "disk" }), hosts)
    }

    /// Returns the hosts that calls name, in their order.
    fn named(calls: &[Value]) -> Vec<String> {
        let first = calls[0]["params"]["hosts"].as_array().cloned().unwrap_or_default();
        let rest = calls[1..].iter().map(|call| {
            assert_eq!(call["method"], "dst_export_add_host");
            assert_eq!(call["params"]["export"], "disk");
            call["params"].clone()
        });
        first.into_iter().chain(rest).map(|entry| entry["host"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn few_hosts_come_with_their_export() {
        assert_eq!(saved(&[]), [json!({ "method": "dst_create_export", "params": { "name": "disk" } })]);
        let hosts: Vec<Host> = (0..5).map(|number| host(number, 3)).collect();
        let calls = saved(&hosts);
        assert_eq!((calls.len(), named(&calls).len()), (1, 5));
    }

    #[test]
    fn no_call_is_longer_than_spdk_takes() {
        let many: Vec<Host> = (0..HOSTS_MAX).map(|number| host(number, 0)).collect();
        let long: Vec<Host> = [1, 500, 512, 1].into_iter().enumerate().map(|(n, p)| host(n, p)).collect();
        for hosts in [many, long] {
            let calls = saved(&hosts);
            let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
            assert_eq!(named(&calls), names, "their order is kept");
            assert!(calls[0]["params"]["hosts"].as_array().is_some_and(|first| !first.is_empty()));
            for call in calls {
                assert!(values(&call) < 1024 && call.to_string().len() < 32 << 10);
            }
        }
    }

    #[test]
    fn an_error_names_the_entry() {
        let take = |hosts: Value| take_entries(&mut Params::new(Some(json!({ "hosts": hosts }))).unwrap());
        let good = json!({ "host": "a", "access": "rw" });
        assert_eq!(take(json!([good])).unwrap().len(), 1);
        assert_eq!(take(json!([])).unwrap(), []);
        for (hosts, wanted) in [
            (
                json!([good, { "host": "b", "access": "wo" }]),
                "hosts: entry 2: access: \"wo\" is neither ro nor rw",
            ),
            (
                json!([good, { "host": "b", "access": "rw", "x": 1 }]),
                "hosts: entry 2: x: there is no such parameter",
            ),
            (json!([{ "access": "rw" }]), "hosts: entry 1: host: missing"),
            (json!([5]), "hosts: a number in the list, objects are wanted"),
            (json!({}), "hosts: an object given, a list is wanted"),
            (json!(vec![&good; HOSTS_MAX + 1]), "hosts: 4097 entries given, at most 4096 are allowed"),
        ] {
            assert_eq!(take(hosts).unwrap_err().message, wanted);
        }
    }
}
