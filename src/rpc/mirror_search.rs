//! The method that looks for members of mirrors.

use dst_mirror_bdev::{Found, Seen};
use serde_json::{Value, json};
use spdk::Errno;
use spdk::rpc::Reply;

use crate::answers::answer;
use crate::error::{Result, RpcError};
use crate::params::Params;

/// The most that is searched before a bdev's end, in MiB: 8 EiB, more than any bdev has.
const SEARCH_MIB_MAX: u64 = 1 << 43;

/// What an operator wants to be searched.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// One bdev, or all.
    bdev: Option<String>,
    back_bytes: u64,
}

fn take(params: Option<Value>) -> Result<Wanted> {
    let mut params = Params::new(params)?;
    let bdev = params.opt_text("bdev_name")?;
    let search_mib = params.number("search_mib", 0, 0..=SEARCH_MIB_MAX)?;
    params.finish()?;
    Ok(Wanted { bdev, back_bytes: search_mib << 20 })
}

fn show_found(found: &Found) -> Value {
    let configuration = &found.record.configuration;
    let member = configuration.member(found.own).map(|member| &member.name);
    let witness = configuration.witness.as_ref().map(|witness| &witness.name);
    json!({
        "mirror": found.record.mirror.to_string(),
        "role": if found.is_witness() { "witness" } else { "member" },
        "name": member.or(witness),
        "id": found.own.to_string(),
        "num_blocks": found.device_blocks,
        "mirror_blocks": found.record.blocks,
        "block_size": found.record.block_size,
        "record": configuration.number,
        "members": configuration.members.iter().map(|member| &member.name).collect::<Vec<_>>(),
        "witness": witness,
    })
}

fn show(seen: &Seen) -> Value {
    let mut shown = match &seen.found {
        Ok(found) => show_found(found),
        Err(why) => json!({ "reason": why }),
    };
    shown["bdev_name"] = json!(seen.bdev);
    shown
}

pub fn find(params: Option<Value>, reply: Reply) {
    let Wanted { bdev, back_bytes } = match take(params) {
        Ok(wanted) => wanted,
        Err(error) => return answer(reply, Err(error)),
    };
    let bdevs = match bdev {
        Some(name) if dst_mirror_bdev::Wanted::new(&name).find().is_none() => {
            let message = format!("bdev_name: there is no bdev with the name or UUID `{name}`");
            return answer(reply, Err(RpcError { code: -Errno::ENODEV.0, message }));
        }
        Some(name) => vec![name],
        None => spdk::bdev::names(),
    };
    dst_mirror_bdev::search(bdevs, back_bytes, |seen| {
        answer(reply, seen.map(|seen| seen.iter().map(show).collect()).map_err(Into::into));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_checked() {
        assert_eq!(take(None).unwrap(), Wanted { bdev: None, back_bytes: 0 });
        let wanted = take(Some(json!({ "bdev_name": "Disk0", "search_mib": 1024 })));
        assert_eq!(wanted.unwrap(), Wanted { bdev: Some("Disk0".to_owned()), back_bytes: 1 << 30 });
        assert!(take(Some(json!({ "search_mib": SEARCH_MIB_MAX + 1 }))).is_err());
        assert!(take(Some(json!({ "search_mib": -1 }))).is_err());
        assert!(take(Some(json!({ "bdev": "Disk0" }))).is_err());
    }
}
