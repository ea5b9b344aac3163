//! The methods that create and change mirrors.

use dst_mirror_bdev::{
    Device, Error, Info, Limits, MEMBER_NAME_MAX, MEMBERS_MAX, Options, Plan, Start, Waits,
};
use serde_json::{Value, json};
use spdk::rpc::Reply;

use crate::answers::{answer, call};
use crate::error::{Result, RpcError};
use crate::options;
use crate::params::Params;

impl From<Error> for RpcError {
    fn from(error: Error) -> RpcError {
        let parameter = match &error {
            Error::NoMember { .. } => "member: ",
            Error::Exists(_)
            | Error::Changing(_)
            | Error::NotFound(_)
            | Error::Deleting(_)
            | Error::Deleted(_)
            | Error::Stopping(_)
            | Error::Verification { .. }
            | Error::Register { .. }
            | Error::Unregister { .. } => "name: ",
            Error::NoBdev(_)
            | Error::Open { .. }
            | Error::Claimed { .. }
            | Error::InUse { .. }
            | Error::Unsuitable { .. }
            | Error::NotTaken { .. } => "members, witness: ",
            Error::NotWiped { .. } => "wipe: ",
            Error::Timeout { .. } => "start_timeout_ms: ",
            Error::Change { .. } | Error::Ended { .. } | Error::Resources { .. } | Error::Searching => "",
        };
        RpcError { code: -error.errno().0, message: format!("{parameter}{error}") }
    }
}

/// The devices of a call.
struct Devices {
    members: Vec<String>,
    witness: Option<String>,
}

/// Takes the devices of the mirror of this name.
fn take_devices(params: &mut Params, mirror: &str) -> Result<Devices> {
    let members: Vec<String> = params.list("members", MEMBERS_MAX)?;
    let witness = params.opt_text("witness")?;
    if members.is_empty() {
        return Err(RpcError::invalid("members", "missing: one to 8 names or UUIDs of bdevs are wanted"));
    }
    let mut all: Vec<&String> = members.iter().chain(&witness).collect();
    if let Some(name) = all.iter().find(|name| name.len() > MEMBER_NAME_MAX) {
        let problem = format!("{name} has {} bytes, at most {MEMBER_NAME_MAX} are recorded", name.len());
        return Err(RpcError::invalid("members, witness", problem));
    }
    all.sort_unstable();
    if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(RpcError::invalid("members, witness", format!("{} is named twice", twice[0])));
    }
    if all.iter().any(|name| *name == mirror) {
        let problem = format!("{mirror} is the mirror itself, which can't be one of its own devices");
        return Err(RpcError::invalid("members, witness", problem));
    }
    Ok(Devices { members, witness })
}

fn take_create(params: Option<Value>) -> Result<Plan> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let Devices { members, witness } = take_devices(&mut params, &name)?;
    let force = params.flag("force", false)?;
    let is_equal = params.flag("equal", false)?;
    let options = options::mirror::take(&mut params, Options::default())?;
    params.finish()?;
    Ok(Plan { name, members, witness, options, start: Start::Create { force, is_equal } })
}

fn take_assemble(params: Option<Value>) -> Result<Plan> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let Devices { members, witness } = take_devices(&mut params, &name)?;
    let force = params.opt_text("force")?;
    let waits = match (params.flag("wait", true)?, params.flag("takeover", false)?) {
        (false, false) => Waits::No,
        (true, false) => Waits::UntilUsable,
        (true, true) => Waits::UntilTakenOver,
        (false, true) => {
            let problem = "given with wait false: a takeover either gets the mirror or leaves nothing behind";
            return Err(RpcError::invalid("takeover", problem));
        }
    };
    if waits == Waits::UntilTakenOver {
        let mut devices = members.iter().chain(&witness);
        if let Some(uuid) = devices.find(|device| dst_mirror_bdev::Wanted::new(device).is_uuid()) {
            let problem = format!(
                "given with the UUID {uuid}: a takeover finds exports by the names of their bdevs only, so name \
                 the bdev"
            );
            return Err(RpcError::invalid("takeover", problem));
        }
    }
    let options = options::mirror::take(&mut params, Options::default())?;
    params.finish()?;
    let force = match force {
        None => None,
        Some(text) => {
            let at = (0..).map(Device).zip(&members).find(|(_, member)| **member == text);
            let problem = format!("{text} is none of the members");
            Some(at.ok_or_else(|| RpcError::invalid("force", problem))?.0)
        }
    };
    Ok(Plan { name, members, witness, options, start: Start::Assemble { force, waits } })
}

fn begin(plan: Result<Plan>, reply: Reply) {
    match plan {
        Ok(plan) => dst_mirror_bdev::create(plan, |result| {
            answer(reply, result.map(Value::from).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

pub fn create(params: Option<Value>, reply: Reply) {
    begin(take_create(params), reply);
}

pub fn assemble(params: Option<Value>, reply: Reply) {
    begin(take_assemble(params), reply);
}

fn take_name(params: Option<Value>) -> Result<String> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    params.finish()?;
    Ok(name)
}

pub fn wait(params: Option<Value>, reply: Reply) {
    match take_name(params) {
        Ok(name) => dst_mirror_bdev::wait(&name, |result| {
            answer(reply, result.map(|()| true.into()).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

fn take_delete(params: Option<Value>) -> Result<(String, bool)> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let wipe = params.flag("wipe", false)?;
    params.finish()?;
    Ok((name, wipe))
}

pub fn delete(params: Option<Value>, reply: Reply) {
    match take_delete(params) {
        Ok((name, wipe)) => dst_mirror_bdev::delete(&name, wipe, |result| {
            answer(reply, result.map(|_| true.into()).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

/// Takes the name of a mirror, and the parameter `of`: the name of a bdev or member.
fn take_device(params: &mut Params, of: &'static str) -> Result<(String, String)> {
    let name = params.text("name")?;
    let device = params.text(of)?;
    if device.len() > MEMBER_NAME_MAX {
        let problem = format!("{device} has {} bytes, at most {MEMBER_NAME_MAX} are recorded", device.len());
        return Err(RpcError::invalid(of, problem));
    }
    if device == name {
        let problem = format!("{device} is the mirror itself, which can't be one of its own devices");
        return Err(RpcError::invalid(of, problem));
    }
    Ok((name, device))
}

fn take_addition(params: Option<Value>, of: &'static str) -> Result<(String, String, bool)> {
    let mut params = Params::new(params)?;
    let (name, member) = take_device(&mut params, of)?;
    let force = params.flag("force", false)?;
    params.finish()?;
    Ok((name, member, force))
}

pub fn add_member(params: Option<Value>, reply: Reply) {
    match take_addition(params, "member") {
        Ok((name, member, force)) => dst_mirror_bdev::add_member(&name, &member, force, |result| {
            answer(reply, result.map(|()| true.into()).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

fn take_removal(params: Option<Value>) -> Result<(String, String)> {
    let mut params = Params::new(params)?;
    let taken = take_device(&mut params, "member")?;
    params.finish()?;
    Ok(taken)
}

pub fn remove_member(params: Option<Value>, reply: Reply) {
    match take_removal(params) {
        Ok((name, member)) => dst_mirror_bdev::remove_member(&name, &member, |result| {
            answer(reply, result.map(|()| true.into()).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

pub fn add_witness(params: Option<Value>, reply: Reply) {
    match take_addition(params, "witness") {
        Ok((name, witness, force)) => dst_mirror_bdev::add_witness(&name, &witness, force, |result| {
            answer(reply, result.map(|()| true.into()).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

pub fn remove_witness(params: Option<Value>, reply: Reply) {
    match take_name(params) {
        Ok(name) => dst_mirror_bdev::remove_witness(&name, |result| {
            answer(reply, result.map(|()| true.into()).map_err(Into::into));
        }),
        Err(error) => answer(reply, Err(error)),
    }
}

/// What an operator wants of a verification.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Begin { repairs: bool },
    Stop,
}

fn take_verification(params: Option<Value>) -> Result<(String, Wanted)> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let repairs = params.flag("repair", false)?;
    let stops = params.flag("stop", false)?;
    params.finish()?;
    match (repairs, stops) {
        (true, true) => Err(RpcError::invalid(
            "repair",
            "a verification that is stopped repairs nothing: omit one of both",
        )),
        (false, true) => Ok((name, Wanted::Stop)),
        (repairs, false) => Ok((name, Wanted::Begin { repairs })),
    }
}

fn begin_verification(params: Option<Value>) -> Result<Value> {
    let (name, wanted) = take_verification(params)?;
    let mirror = dst_mirror_bdev::find(&name)?;
    match wanted {
        Wanted::Begin { repairs } => mirror.verify(repairs)?,
        Wanted::Stop => mirror.stop_verification(),
    }
    Ok(true.into())
}

pub fn verify(params: Option<Value>, reply: Reply) {
    answer(reply, begin_verification(params));
}

fn apply_options(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let name = params.text("name")?;
    let mirror = dst_mirror_bdev::find(&name)?;
    let options = options::mirror::take(&mut params, mirror.options())?;
    params.finish()?;
    mirror.set_options(options);
    Ok(true.into())
}

pub fn set_options(params: Option<Value>, reply: Reply) {
    answer(reply, apply_options(params));
}

fn apply_limits(params: Option<Value>) -> Result<Value> {
    let mut params = Params::new(params)?;
    let limits = options::mirrors::take(&mut params, dst_mirror_bdev::limits())?;
    params.finish()?;
    dst_mirror_bdev::set_limits(limits);
    Ok(true.into())
}

pub fn set_limits(params: Option<Value>, reply: Reply) {
    answer(reply, apply_limits(params));
}

fn limits_now(params: Option<Value>) -> Result<Value> {
    Params::new(params)?.finish()?;
    let mut shown = options::mirrors::show(&dst_mirror_bdev::limits());
    shown.insert("mirrors_waiting_to_copy".to_owned(), dst_mirror_bdev::waiting_to_copy().into());
    Ok(shown.into())
}

pub fn get_limits(params: Option<Value>, reply: Reply) {
    answer(reply, limits_now(params));
}

/// Returns the RPCs that set the limits of all mirrors, if there are any, and assemble the mirrors
/// again, but for those that an RPC still waits for. They come before all bdevs, so that no other
/// module examines data that may look like its own. Those that wait for the mirrors come with their
/// bdevs.
pub fn config() -> Vec<Value> {
    let saved = |info: &Info| {
        let plan = &info.plan;
        let mut params = json!({ "name": plan.name, "members": plan.members, "wait": false });
        if let Some(witness) = &plan.witness {
            params["witness"] = json!(witness);
        }
        if let Value::Object(params) = &mut params {
            params.extend(options::mirror::show(&plan.options));
        }
        call("bdev_dst_mirror_assemble", params)
    };
    let mirrors = dst_mirror_bdev::list();
    mirrors.iter().for_each(|mirror| mirror.prepare_config());
    let infos = mirrors.iter().map(|mirror| mirror.info());
    let limits = dst_mirror_bdev::limits();
    let changed = (limits != Limits::default())
        .then(|| call("bdev_dst_mirror_set_limits", options::mirrors::show(&limits).into()));
    let assembled = infos.filter(|info| info.is_settled).map(|info| saved(&info));
    changed.into_iter().chain(assembled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(given: Value) -> String {
        take_assemble(Some(given)).unwrap_err().message
    }

    #[test]
    fn the_devices_are_named_once_each() {
        let plan = take_create(Some(json!({ "name": "m", "members": ["a", "b"], "witness": "c" }))).unwrap();
        assert_eq!((plan.members.len(), plan.witness.as_deref()), (2, Some("c")));
        assert!(wrong(json!({ "name": "m" })).starts_with("members: missing"));
        assert!(wrong(json!({ "name": "m", "members": [] })).starts_with("members: missing"));
        let twice = wrong(json!({ "name": "m", "members": ["a", "b"], "witness": "a" }));
        assert_eq!(twice, "members, witness: a is named twice");
        let own = wrong(json!({ "name": "m", "members": ["a", "m"] }));
        assert!(own.starts_with("members, witness: m is the mirror itself"), "{own}");
        let long = wrong(json!({ "name": "m", "members": ["x".repeat(MEMBER_NAME_MAX + 1)] }));
        assert!(long.contains("has 65 bytes"), "{long}");
        assert!(wrong(json!({ "name": "m", "members": vec!["a"; MEMBERS_MAX + 1] })).contains("9 entries"));
    }

    #[test]
    fn a_member_is_named() {
        for of in ["member", "witness"] {
            let taken = take_addition(Some(json!({ "name": "m", of: "a", "force": true })), of).unwrap();
            assert_eq!(taken, ("m".to_owned(), "a".to_owned(), true));
        }
        let wrong = |given: Value| take_removal(Some(given)).unwrap_err().message;
        assert!(wrong(json!({ "name": "m", "member": "m" })).starts_with("member: m is the mirror itself"));
        assert!(wrong(json!({ "name": "m", "member": "x".repeat(65) })).contains("has 65 bytes"));
        assert!(wrong(json!({ "name": "m", "member": "a", "force": true })).contains("force"));
    }

    #[test]
    fn a_verification_is_begun_or_stopped() {
        let taken = |more: Value| {
            let mut given = json!({ "name": "m" });
            given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            take_verification(Some(given))
        };
        let begun = |repairs| Ok(("m".to_owned(), Wanted::Begin { repairs }));
        assert_eq!(taken(json!({})).map_err(|error| error.message), begun(false));
        assert_eq!(taken(json!({ "repair": true })).map_err(|error| error.message), begun(true));
        assert_eq!(taken(json!({ "stop": true })).unwrap().1, Wanted::Stop);
        let both = taken(json!({ "repair": true, "stop": true })).unwrap_err().message;
        assert!(both.starts_with("repair: "), "{both}");
    }

    #[test]
    fn only_a_member_can_be_forced() {
        let given =
            |force: &str| json!({ "name": "m", "members": ["a", "b"], "witness": "w", "force": force });
        let plan = take_assemble(Some(given("b"))).unwrap();
        assert_eq!(plan.start, Start::Assemble { force: Some(Device(1)), waits: Waits::UntilUsable });
        assert_eq!(wrong(given("w")), "force: w is none of the members");
    }

    #[test]
    fn a_takeover_is_waited_for() {
        let given =
            |wait: bool| json!({ "name": "m", "members": ["a", "b"], "takeover": true, "wait": wait });
        let plan = take_assemble(Some(given(true))).unwrap();
        assert_eq!(plan.start, Start::Assemble { force: None, waits: Waits::UntilTakenOver });
        assert!(wrong(given(false)).starts_with("takeover: given with wait false"));
        let uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f";
        for (members, witness) in [(["a", uuid], "w"), (["a", "b"], uuid)] {
            let given = |takeover: bool| json!({ "name": "m", "members": members, "witness": witness, "takeover": takeover });
            let refused = wrong(given(true));
            assert!(refused.starts_with(&format!("takeover: given with the UUID {uuid}")), "{refused}");
            assert!(take_assemble(Some(given(false))).is_ok(), "others may be named so");
        }
    }
}
