//! Helpers for tests, which edit encoded messages and generate their contents.

use crate::attribute::{Reader, Writer};
use crate::{Claim, Device, OpSet, Ownership, Previous, SessionRef};
use proptest::prelude::*;

pub type List = Vec<(u16, Vec<u8>)>;

fn split(message: &[u8]) -> List {
    let mut list = Vec::new();
    let mut reader = Reader::new("test", message);
    while let Some(a) = reader.next().expect("a list of attributes") {
        list.push((a.kind, a.value.to_vec()));
    }
    list
}

/// Changes the list at `path`: `[]` is the message itself, `[4]` the list nested in its attribute
/// 4.
pub fn edit(message: &[u8], path: &[u16], change: impl FnOnce(&mut List)) -> Vec<u8> {
    let mut list = split(message);
    match path {
        [] => change(&mut list),
        [kind, deeper @ ..] => {
            let (_, nested) = list.iter_mut().find(|a| a.0 == *kind).expect("the path exists");
            *nested = edit(nested, deeper, change);
        }
    }
    let mut w = Writer::new();
    for (kind, value) in &list {
        w.bytes(*kind, value);
    }
    w.finish()
}

/// Returns `message` without the attribute `kind` of the list at `path`.
pub fn without(message: &[u8], path: &[u16], kind: u16) -> Vec<u8> {
    edit(message, path, |list| {
        let at = list.iter().position(|a| a.0 == kind).expect("it is there");
        list.remove(at);
    })
}

/// Returns `message` with another value for the attribute `kind` of the list at `path`.
pub fn with(message: &[u8], path: &[u16], kind: u16, value: &[u8]) -> Vec<u8> {
    edit(message, path, |list| {
        list.iter_mut().find(|a| a.0 == kind).expect("it is there").1 = value.to_vec();
    })
}

/// Generates an attribute of an unknown type, with a number that selects where to insert it.
pub fn any_unknown() -> impl Strategy<Value = (usize, u16, Vec<u8>)> {
    (any::<usize>(), 40u16.., prop::collection::vec(any::<u8>(), 0..64))
}

/// Returns `message` with the attribute `unknown` inserted into the list at `path`.
pub fn with_unknown(message: &[u8], path: &[u16], unknown: &(usize, u16, Vec<u8>)) -> Vec<u8> {
    edit(message, path, |list| {
        let (at, kind, value) = unknown;
        list.insert(at % (list.len() + 1), (*kind, value.clone()));
    })
}

pub fn any_name() -> impl Strategy<Value = String> {
    // At most 55 characters of at most 4 bytes: always within NAME_MAX.
    "[^\\p{Cc}]{1,55}"
}

pub fn any_session() -> impl Strategy<Value = SessionRef> {
    any::<([u8; 16], u16, u32)>().prop_map(|(id, queue, epoch)| SessionRef { id, queue, epoch })
}

pub fn any_previous() -> impl Strategy<Value = Previous> {
    any::<([u8; 16], [u8; 16])>().prop_map(|(session, instance)| Previous { session, instance })
}

pub fn any_device() -> impl Strategy<Value = Device> {
    let numbers = (1u64..=i64::MAX as u64 >> 16, 9u32..=16, 1u32..=16, any::<(u32, u32, u32)>());
    (any::<[u8; 16]>(), numbers, any::<(bool, bool)>()).prop_map(
        |(uuid, (num_blocks, shift, write_unit_size, (boundary, compare, ops)), (cache, read_only))| Device {
            uuid,
            num_blocks,
            block_size: 1 << shift,
            write_unit_size,
            optimal_io_boundary: boundary,
            compare_and_write_max: compare,
            write_cache: cache,
            read_only,
            ops: OpSet::from_bits(ops),
        },
    )
}

pub fn any_claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        Just(Claim::Inquiry),
        (1u64..).prop_map(Claim::Held),
        any::<(u64, bool)>().prop_map(|(after, takeover)| Claim::Next { after, takeover }),
    ]
}

pub fn any_ownership() -> impl Strategy<Value = Ownership> {
    prop_oneof![
        any::<u64>().prop_map(|last| Ownership::Free { last }),
        (1u64.., any_name(), any::<u64>()).prop_map(|(number, host, since_s)| Ownership::Exclusive {
            number,
            host,
            since_s
        }),
    ]
}
