//! The client's side: attaching exports as bdevs.

use serde_json::json;

use crate::cli::{AttachArguments, DetachArguments};
use crate::export::key_file;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::rpc::Calls;
use crate::save::save;
use crate::snapshot::{self, State};
use crate::table::bytes;

/// Attaches an export.
///
/// # Errors
/// Fails if a call fails. If the attach itself fails, no bdev is left.
pub fn attach(rpc: &mut impl Calls, args: &AttachArguments) -> Result<Outcome, Failure> {
    let source = &args.source;
    let name = args.name.as_ref().unwrap_or(&source.export);
    let traddr = if let [address] = &source.addresses[..] { json!(address) } else { json!(source.addresses) };
    let mut params = json!({
        "name": name,
        "traddr": traddr,
        "trsvcid": source.port.to_string(),
        "export": source.export,
        "wait": !args.no_wait,
    });
    let given = [
        ("host", &args.host),
        ("cipher", &args.cipher),
        ("digest", &args.digest),
        ("path_policy", &args.path_policy),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            params[key] = json!(value);
        }
    }
    for (key, is_set) in [("exclusive", args.exclusive), ("takeover", args.takeover)] {
        if is_set {
            params[key] = json!(true);
        }
    }
    if let Some(key) = &args.key {
        params["psk_file"] = key_file(key)?;
    }
    rpc.call("bdev_dst_create", params)?;
    save(rpc, &args.save)?;
    let found = snapshot::bdevs(rpc, Some(name))?;
    let text = match found.first() {
        // Who waited was told that it is attached. A thread's connection may just be opened, as by a
        // module that examines the bdev.
        Some(bdev) if bdev.state == State::Connected || (!args.no_wait && bdev.negotiated.is_some()) => {
            let size = bdev.negotiated.as_ref().map_or(0, |device| device.bytes());
            format!("{name} is attached ({})\n", bytes(size))
        }
        Some(bdev) => {
            let why = bdev.last_error.as_deref().unwrap_or("no answer yet");
            format!("{name} is not attached yet, DST goes on trying: {why}\n")
        }
        None => format!("{name} was removed meanwhile\n"),
    };
    Ok(Outcome::new(json!({"bdev": name}), text))
}

/// Removes an attached bdev.
///
/// # Errors
/// Fails if the call fails.
pub fn detach(rpc: &mut impl Calls, args: &DetachArguments) -> Result<Outcome, Failure> {
    rpc.call("bdev_dst_delete", json!({"name": args.name}))?;
    save(rpc, &args.save)?;
    Ok(Outcome::new(json!({"bdev": args.name}), format!("{} is detached\n", args.name)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};
    use crate::rpc::Answer;
    use crate::rpc::tests::{Script, refusal};

    fn run(words: &[&str], script: &mut Script) -> Result<Outcome, Failure> {
        match Arguments::try_parse_from(["dstctl"].iter().chain(words)).unwrap().command {
            Command::Attach(args) => attach(script, &args),
            Command::Detach(args) => detach(script, &args),
            other => panic!("{other:?}"),
        }
    }

    fn info(state: &str) -> Answer {
        Ok(json!([{
            "name": "v", "traddr": "10.0.0.1", "trsvcid": "4420", "export": "v", "state": state,
            "last_error": "connect: Connection refused",
            "negotiated": {"num_blocks": 2048, "block_size": 512},
        }]))
    }

    #[test]
    fn an_export_becomes_a_bdev_of_its_name() {
        let mut script = Script::new([Ok(json!("v")), info("connected")]);
        let outcome = run(&["attach", "10.0.0.1:4420/v"], &mut script).unwrap();
        assert_eq!(outcome.text, "v is attached (1.0 MiB)\n");
        let expected =
            json!({"name": "v", "traddr": "10.0.0.1", "trsvcid": "4420", "export": "v", "wait": true});
        assert_eq!(script.calls[0], ("bdev_dst_create".to_owned(), expected));
    }

    #[test]
    fn a_thread_that_is_still_connecting_makes_no_bdev_unattached() {
        let mut script = Script::new([Ok(json!("v")), info("reconnecting")]);
        let outcome = run(&["attach", "10.0.0.1:4420/v"], &mut script).unwrap();
        assert_eq!(outcome.text, "v is attached (1.0 MiB)\n");
    }

    #[test]
    fn everything_that_was_said_is_passed_on() {
        let mut script = Script::new([Ok(json!("n")), info("reconnecting")]);
        let words = [
            "attach",
            "a,b:1/v",
            "--name",
            "n",
            "--host",
            "h",
            "--digest",
            "none",
            "--path-policy",
            "spread",
            "--no-wait",
            "--exclusive",
            "--takeover",
        ];
        let outcome = run(&words, &mut script).unwrap();
        assert_eq!(outcome.text, "n is not attached yet, DST goes on trying: connect: Connection refused\n");
        let params = &script.calls[0].1;
        assert_eq!((&params["exclusive"], &params["takeover"]), (&json!(true), &json!(true)));
        assert_eq!(params["traddr"], json!(["a", "b"]));
        assert_eq!(params["path_policy"], json!("spread"));
        assert_eq!(
            (&params["wait"], &params["host"], &params["digest"]),
            (&json!(false), &json!("h"), &json!("none"))
        );
    }

    #[test]
    fn a_refusal_is_shown_and_a_detach_is_one_call() {
        let failure =
            run(&["attach", "a:1/v"], &mut Script::new([refusal("no host may attach")])).err().unwrap();
        assert_eq!(failure.to_string(), "bdev_dst_create: no host may attach");
        let mut script = Script::new([Ok(json!(true))]);
        run(&["detach", "v"], &mut script).unwrap();
        assert_eq!(script.calls, [("bdev_dst_delete".to_owned(), json!({"name": "v"}))]);
    }
}
