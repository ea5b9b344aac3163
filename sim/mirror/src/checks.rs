//! The rules of docs/mirror.md that concern what members hold, and for how long things may take.
//! What a mirror asks for is checked in [`crate::owner`].

use dst_mirror::Op;
use dst_mirror::report::{Condition, State};

use crate::disk::Content;
use crate::model::Wrong;
use crate::owner::{Owner, Purpose, UserIo, target_of};
use crate::plan::Plan;
use crate::state::Run;
use crate::world::Bdev;

/// The longest time for which an I/O may wait in addition to the timeouts that docs/mirror.md
/// states: for locks of its range, records and retries, on slow devices.
const SLACK_US: u64 = 2_000_000;

/// Returns whether each member is in sync, as the mirror says.
pub fn in_sync(plan: &Plan, owner: &Owner) -> Vec<bool> {
    let mut found = vec![false; plan.members];
    for member in owner.mirror.report().members {
        if let (Condition::InSync, Some(device)) = (&member.condition, member.device) {
            found[target_of(plan, device)] = true;
        }
    }
    found
}

/// Returns the members that hold everything as far as the mirror knows, and as far as the
/// simulator knows that the mirror was told.
fn holders(run: &Run, host: usize) -> Vec<usize> {
    let Some(owner) = run.owners[host].as_ref().filter(|owner| !owner.superseded) else { return Vec::new() };
    let all = in_sync(&run.plan, owner);
    (0..run.plan.members).filter(|&member| all[member]).collect()
}

/// Returns whether a member has lost a write of a block with its cache, and nobody has written the
/// block since. The mirror may not know yet.
fn is_lost(run: &Run, member: usize, block: u64) -> bool {
    run.world.targets[member].lost.contains(&block)
}

/// Keeps in mind which members are in sync, after a mirror was told something.
pub fn members_in_sync(run: &mut Run, host: usize) {
    let Some(owner) = run.owners[host].as_ref().filter(|owner| owner.is_usable() && !owner.superseded) else {
        return;
    };
    let found = in_sync(&run.plan, owner);
    if found != run.in_sync && found.contains(&true) {
        run.world.note(|| format!("in sync: {found:?}"));
        run.in_sync = found;
        excuse_losses(run);
    }
}

/// What no member in sync holds any more is lost, as it may be on any disk that was not flushed.
pub fn excuse_losses(run: &mut Run) {
    for member in 0..run.plan.members {
        for block in run.world.targets[member].lost.clone() {
            excuse_loss(run, block);
        }
    }
}

/// Excuses the loss of a block, if members in sync have lost a write of it and none holds what it should.
fn excuse_loss(run: &mut Run, block: u64) {
    let members: Vec<usize> = (0..run.plan.members).filter(|&member| run.in_sync[member]).collect();
    let holds = |run: &mut Run, member: usize| {
        let now = run.world.stamp();
        let value = run.world.targets[member].disk.write_at(block);
        value.is_some_and(|value| run.model.judge(block, value, now).is_none())
    };
    if members.iter().any(|&member| is_lost(run, member, block))
        && !members.iter().any(|&member| holds(run, member))
    {
        excuse(run, block);
    }
}

fn excuse(run: &mut Run, block: u64) {
    let now = run.world.stamp();
    run.totals.excused += 1;
    run.world.note(|| format!("block {block}: what was not flushed may be lost"));
    run.model.excuse(block, now);
}

/// A mirror was assembled. If a member has lost its cache while no owner was there who was told,
/// nobody knows: what was not flushed may be lost. Returns whether what blocks hold has been decided.
pub fn assembled(run: &mut Run, host: usize, now: u64) -> bool {
    let is_decided = run.decide(host, now);
    let Some(owner) = &run.owners[host] else { return is_decided };
    let mut all = in_sync(&run.plan, owner);
    for (is, was) in all.iter_mut().zip(&run.in_sync) {
        *is |= was;
    }
    for member in (0..run.plan.members).filter(|&member| all[member]) {
        for block in run.world.targets[member].lost.clone() {
            let stamp = run.world.stamp();
            let value = run.world.targets[member].disk.write_at(block);
            if value.is_none_or(|value| run.model.judge(block, value, stamp).is_some()) {
                excuse(run, block);
            }
        }
    }
    // From now on, members in sync are to be equal there.
    for member in 0..run.plan.members {
        if run.world.hosts[host].bdevs[member] == (Bdev::Open { losses: run.world.targets[member].losses }) {
            run.world.targets[member].lost.clear();
        }
    }
    let now = in_sync(&run.plan, run.owners[host].as_ref().expect("it was just there"));
    if now.contains(&true) {
        run.in_sync = now;
    }
    is_decided
}

/// Returns whether a member holds completed writes that another one lacks, and has not lost with
/// its cache.
pub fn is_newer(run: &mut Run, member: usize, other: usize) -> bool {
    let now = run.world.stamp();
    run.model.known().into_iter().any(|block| {
        let mut holds = |member: usize| {
            let value = run.world.targets[member].disk.write_at(block);
            value.is_some_and(|value| run.model.judge(block, value, now).is_none())
        };
        holds(member) && !holds(other) && !run.world.targets[other].lost.contains(&block)
    })
}

/// A user's I/O has ended.
pub fn completed(run: &mut Run, host: usize, io: &UserIo, success: bool) {
    let now = run.world.stamp();
    let Some(owner) = &run.owners[host] else { return };
    let (superseded, refused) = (owner.superseded, owner.refused);
    match io.op {
        Op::Read if success && !superseded => read(run, host, io, now),
        Op::Read => {}
        Op::Write | Op::WriteZeroes if success => {
            if refused {
                run.violate(
                    "10",
                    format!("I/O {} is completed after another host took the mirror", io.number),
                );
            }
            run.model.complete(io.number, io.blocks(), now);
            for member in holders(run, host) {
                for block in io.blocks() {
                    judge_member(run, "1", member, block, now);
                }
            }
            // The last member in sync may have lost it before the others had it: the next flush says so.
            for block in io.blocks().filter(|_| !superseded) {
                excuse_loss(run, block);
            }
        }
        Op::Write | Op::WriteZeroes => run.model.settle(io.number, io.blocks(), now),
        Op::Flush if success && !superseded => {
            for member in holders(run, host) {
                for block in run.model.known() {
                    if !run.model.was_idle(block, io.since.0) {
                        continue;
                    }
                    for value in run.world.targets[member].disk.possible(block) {
                        if !is_lost(run, member, block)
                            && let Some(wrong) = run.model.judge(block, value, io.since.0)
                        {
                            let text = format!(
                                "flush {}: member {member} may forget block {block}: {wrong:?}",
                                io.number
                            );
                            run.violate("14", text);
                        }
                    }
                }
            }
            run.model.flushed(io.since.0);
        }
        Op::Flush => {}
    }
}

fn read(run: &mut Run, host: usize, io: &UserIo, now: u64) {
    if io.data.len() as u64 != io.count {
        return run.violate("5", format!("read {} has {} blocks", io.number, io.data.len()));
    }
    for (block, content) in io.blocks().zip(&io.data) {
        let Content::Write(value) = *content else {
            return run.violate("13", format!("read {}: block {block} holds metadata", io.number));
        };
        if run.decayed.contains(&block) {
            // Another member may still hold what the block held before, so reads differ in turn.
            continue;
        }
        if let Some(wrong) = run.model.read(block, value, io.since.0, now) {
            let described = run.model.describe(block);
            run.world.note(|| described);
            return run.violate("1", format!("host {host}: read {}: block {block}: {wrong:?}", io.number));
        }
    }
}

/// Checks what a member that is in sync holds.
fn judge_member(run: &mut Run, rule: &str, member: usize, block: u64, since: u64) {
    if is_lost(run, member, block) {
        return;
    }
    let value = run.world.targets[member].disk.write_at(block);
    let wrong = value.map_or(Some(Wrong::Alien), |value| run.model.judge(block, value, since));
    if let Some(wrong) = wrong {
        let described = run.model.describe(block);
        run.world.note(|| described);
        run.violate(rule, format!("member {member} in sync holds {value:?} in block {block}: {wrong:?}"));
    }
}

/// Checks, now and then, what members in sync hold, and how long things take.
pub fn look(run: &mut Run) {
    members_are_equal(run);
    run.check_verifications();
    check_rate(run);
    check_patience(run);
}

/// Members in sync are equal where nothing is going on, and hold nothing old.
pub fn members_are_equal(run: &mut Run) {
    let now = run.world.stamp();
    for host in 0..run.owners.len() {
        let members = holders(run, host);
        let Some(owner) = run.owners[host].as_ref().filter(|owner| owner.is_usable()) else { continue };
        let mut busy: Vec<std::ops::Range<u64>> = owner.ios.values().map(|io| io.blocks()).collect();
        let requests = owner.requests.values().filter(|request| request.purpose != Purpose::MetadataRead);
        busy.extend(requests.map(|request| request.blocks.clone()));
        for block in run.model.known() {
            if run.decayed.contains(&block) || busy.iter().any(|range| range.contains(&block)) {
                continue;
            }
            let mut first = None;
            for &member in &members {
                if is_lost(run, member, block) {
                    continue;
                }
                judge_member(run, "1", member, block, now);
                let value = run.world.targets[member].disk.write_at(block);
                let &mut (one, other) = first.get_or_insert((member, value));
                if other != value {
                    let text =
                        format!("block {block}: member {one} holds {other:?}, member {member} {value:?}");
                    run.violate("6", text);
                }
            }
        }
    }
}

/// Copying keeps to its rate: in each second no more than that, what the slots hold, and what may be
/// saved up in a tenth of a second.
fn check_rate(run: &mut Run) {
    let options = run.plan.options;
    let now = run.world.now;
    for host in 0..run.owners.len() {
        let Some(owner) = &mut run.owners[host] else { continue };
        owner.copies.retain(|(at, _)| at + 1_000_000 > now);
        let bytes: u64 = owner.copies.iter().map(|(_, bytes)| bytes).sum();
        let burst = 2 * u64::from(options.copy_bytes) * u64::from(options.copy_slots);
        if options.resync_rate > 0 && bytes > options.resync_rate / 10 * 11 + burst {
            run.violate("12", format!("{bytes} bytes are copied in a second, of {}", options.resync_rate));
        }
        // Each window is read from all members but one to be compared.
        let Some(owner) = &mut run.owners[host] else { continue };
        owner.compares.retain(|(at, _)| at + 1_000_000 > now);
        let bytes: u64 = owner.compares.iter().map(|(_, bytes)| bytes).sum();
        let rate = options.verify_rate * (run.plan.members as u64 - 1);
        if rate > 0 && bytes > rate / 10 * 11 + burst {
            run.violate("15", format!("{bytes} bytes are compared in a second, of {rate}"));
        }
    }
}

/// When just one target of a whole mirror gets into trouble and all others stay well, no I/O waits
/// for longer than the member's timeout and a lease.
fn check_patience(run: &mut Run) {
    if run.plan.changes {
        // Which majority there is depends on who is a member.
        return;
    }
    let was_whole = std::mem::replace(&mut run.was_whole, false);
    let now = run.world.now;
    let Some(host) = (0..run.owners.len())
        .find(|&host| run.owners[host].as_ref().is_some_and(|owner| owner.is_usable() && !owner.superseded))
    else {
        run.alone_since = None;
        return;
    };
    let Some(owner) = &run.owners[host] else { return };
    let is_slow = |target: usize| run.world.targets[target].slow > 1 || run.world.targets[target].errors > 0;
    let is_bad = |target: &usize| {
        !run.world.is_open(host, *target)
            || !run.world.passes(host, *target)
            || is_slow(*target)
            || !run.world.targets[*target].bad.is_empty()
            || run.world.targets[*target].owner != Some(host)
    };
    let bad: Vec<usize> = (0..run.plan.targets()).filter(is_bad).collect();
    let voters = run.plan.targets();
    let has_majority = 2 * (voters - 1) > voters || voters == 2 && !run.plan.witness;
    let is_calm = !run.world.hosts[host].stopped && has_majority;
    match bad[..] {
        [] => {
            let report = owner.mirror.report();
            let has_witness = report.witness.is_none_or(|witness| witness.is_current());
            run.was_whole = report.state == State::Online && has_witness && is_calm;
            run.alone_since = None;
        }
        [target] if is_calm && !is_slow(target) => {
            if was_whole {
                run.alone_since = Some((target, now));
            }
            let Some((_, since)) =
                run.alone_since.filter(|(of, since)| *of == target && *since >= run.trouble_us)
            else {
                run.alone_since = None;
                return;
            };
            let most = run.plan.options.member_timeout_ms * 1000 + 2 * run.plan.lease_us + SLACK_US;
            if let Some(io) = owner.ios.values().find(|io| io.since.1.max(since) + most < now) {
                let text =
                    format!("I/O {} has waited since {} us, for target {target}", io.number, io.since.1);
                run.violate("11", text);
            }
        }
        _ => run.alone_since = None,
    }
}
