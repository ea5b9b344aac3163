//! What mirrors show of themselves: `bdev_dst_mirror_get_info`.

use dst_mirror_bdev::{
    Condition, Device, DeviceInfo, DeviceState, Info, State, Verification, VerificationState,
    WitnessCondition,
};
use serde_json::{Value, json};
use spdk::clock::now_us;
use spdk::rpc::Reply;

use crate::answers::{answer, show_histogram};
use crate::error::Result;
use crate::options;
use crate::params::Params;

/// Returns why a mirror can't be used.
fn why(state: &State) -> Option<&str> {
    match state {
        State::Starting { why } | State::Ended { why } => Some(why),
        State::Online
        | State::Degraded
        | State::Stalled
        | State::Failed
        | State::Stopping
        | State::Stopped => None,
    }
}

/// Returns what a member is doing, as members of an object.
fn show_condition(condition: &Condition) -> Value {
    let state = condition.name();
    match condition {
        Condition::InSync | Condition::Detached => json!({ "state": state }),
        Condition::Resyncing { left } => json!({ "state": state, "blocks_left": left }),
        Condition::Missing { why, since, missed } => json!({
            "state": state,
            "reason": why,
            "missing_ms": now_us().saturating_sub(*since) / 1000,
            "blocks_missed": missed,
        }),
        Condition::Unusable { why } => json!({ "state": state, "reason": why }),
    }
}

fn show_device(device: &DeviceInfo) -> Value {
    let DeviceInfo { device, wanted, state } = device;
    let (state, bdev, in_flight, why) = match state {
        DeviceState::Waiting { why } => ("waiting", None, 0, Some(why)),
        DeviceState::Open { bdev, in_flight } => ("open", Some(bdev), *in_flight, None),
        DeviceState::Leaving { bdev, in_flight } => ("leaving", Some(bdev), *in_flight, None),
    };
    json!({
        "role": if *device == Device::WITNESS { "witness" } else { "member" },
        "device": wanted,
        "bdev_name": bdev,
        "state": state,
        "reason": why,
        "requests": in_flight,
    })
}

/// Returns what a verification has found. Members are shown by their names.
fn show_verification(found: &Verification, info: &Info) -> Value {
    let (state, why, ended) = match found.state {
        VerificationState::Running { waits_for: None } => ("running", None, None),
        VerificationState::Running { waits_for } => ("waiting", waits_for, None),
        VerificationState::Done { at } => ("done", None, Some(at)),
        VerificationState::Stopped { at } => ("stopped", None, Some(at)),
    };
    let name = |id| info.report.members.iter().find(|member| member.id == id).map(|member| &member.name);
    let first = found.first.iter().map(|difference| {
        json!({
            "member": name(difference.member),
            "id": difference.member.to_string(),
            "start": difference.range.start,
            "num_blocks": difference.range.count,
        })
    });
    json!({
        "state": state,
        "reason": why,
        "ended_ms_ago": ended.map(|at| now_us().saturating_sub(at) / 1000),
        "repair": found.repairs,
        "blocks_compared": found.compared,
        "blocks_differing": found.differing,
        "blocks_unread": found.unread,
        "blocks_repaired": found.repaired,
        "first": first.collect::<Vec<_>>(),
    })
}

fn show_info(info: &Info) -> Value {
    let Info { plan, report, devices, is_deleting, is_settled: _, ios, latency } = info;
    let wanted = |device: Option<Device>| {
        let shown = devices.iter().find(|shown| Some(shown.device) == device);
        shown.map(|shown| shown.wanted.clone())
    };
    let members: Vec<Value> = report
        .members
        .iter()
        .map(|member| {
            let mut shown = show_condition(&member.condition);
            shown["name"] = json!(member.name);
            shown["id"] = json!(member.id.to_string());
            shown["device"] = json!(wanted(member.device));
            shown
        })
        .collect();
    let witness = report.witness.as_ref().map(|witness| {
        let why = match &witness.condition {
            WitnessCondition::Current => None,
            WitnessCondition::Away { why } => Some(why),
        };
        json!({
            "name": witness.name,
            "id": witness.id.to_string(),
            "is_current": witness.is_current(),
            "reason": why,
        })
    });
    let counts = &report.counts;
    json!({
        "name": plan.name,
        "uuid": report.mirror.map(|mirror| mirror.to_string()),
        "state": report.state.name(),
        "reason": why(&report.state),
        "deleting": is_deleting,
        "num_blocks": report.blocks,
        "block_size": report.block_size,
        "members": members,
        "witness": witness,
        "devices": devices.iter().map(show_device).collect::<Vec<_>>(),
        "generation": report.generation.map(|generation| generation.to_string()),
        "record": report.number,
        "hot_regions": report.hot_regions,
        "region_blocks": report.region_blocks,
        "outstanding": ios.0,
        "waiting": ios.1,
        "counters": {
            "reads": counts.reads,
            "writes": counts.writes,
            "flushes": counts.flushes,
            "records": counts.records,
            "copied_blocks": counts.copied_blocks,
            "read_errors": counts.read_errors,
            "repaired_blocks": counts.repaired_blocks,
            "departures": counts.departures,
            "lost_caches": counts.lost_caches,
        },
        "latency_us": {
            "read": show_histogram(&latency.reads),
            "write": show_histogram(&latency.writes),
            "other": show_histogram(&latency.others),
        },
        "verification": report.verification.as_ref().map(|found| show_verification(found, info)),
        "options": options::mirror::show(&plan.options),
    })
}

fn info_of(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let name = params.opt_text("name")?;
    params.finish()?;
    let mirrors = match name {
        Some(name) => vec![dst_mirror_bdev::find(&name)?],
        None => dst_mirror_bdev::list(),
    };
    Ok(mirrors.iter().map(|mirror| show_info(&mirror.info())).collect())
}

pub fn get_info(params: Option<Value>, reply: Reply) {
    answer(reply, info_of(params));
}
