//! Which actions are possible in a state.

use crate::action::Action;
use crate::channel::Link;
use crate::client::Client;
use crate::kept::Storing;
use crate::state::State;
use crate::target::{Removal, Target};
use crate::wire::{End, Key, Wire};
use crate::world::World;

/// Adds every action that is possible in `state`.
pub fn each(state: &State, world: &World, actions: &mut Vec<Action>) {
    for (host, client) in state.clients.iter().enumerate() {
        each_of_client(state, host as u8, client, world, actions);
    }
    for (&key, wire) in &state.wires {
        each_of_wire(state, key, wire, world, actions);
    }
    for (number, target) in state.targets.iter().enumerate().filter(|(_, target)| target.is_alive) {
        each_of_target(state, number as u8, target, world, actions);
    }
    if state.left.lost_stores > 0 {
        actions.push(Action::StoreLost);
    }
    if world.has_time {
        actions.push(Action::Tick);
    }
}

fn each_of_store(state: &State, number: u8, target: &Target, world: &World, actions: &mut Vec<Action>) {
    match &target.storing {
        Some(Storing::Writing(_)) => {
            actions.push(Action::Written(number));
            if state.left.failed_stores > 0 {
                actions.push(Action::NotStored(number));
                actions.push(Action::StoredInDoubt(number));
            }
        }
        Some(Storing::Written) => actions.push(Action::Stored(number)),
        None if world.owners.is_some() && state.left.releases > 0 => actions.push(Action::Release(number)),
        None => {}
    }
}

fn each_of_client(state: &State, host: u8, client: &Client, world: &World, actions: &mut Vec<Action>) {
    for queue in 0..=client.channels.len() as u16 {
        let link = client.link(queue);
        let may_connect =
            link.key().is_none() && !client.is_over() && (queue == 0 || client.session.is_some());
        if may_connect && state.left.connects > 0 && state.targets[usize::from(client.address)].is_alive {
            actions.push(Action::Connect { host, queue });
        }
        if let Some(key) = link.key()
            && state.left.losses > 0
            && world.may_lose(queue)
        {
            let under_way = state.wires.get(&key).map_or(0, |wire| wire.up.len() as u8);
            actions.extend((0..=under_way).map(|frames| Action::ClientLoses { host, queue, frames }));
        }
        if let Link::Up { lease: Some(lease), .. } = link
            && let Some((id, _)) = lease.clone().ask(state.now_us)
            && id <= world.keep_alives
        {
            actions.push(Action::KeepAlive { host, queue });
        }
        let wants_turn = match queue {
            0 => client.control_wants_turn(state.now_us),
            queue => client.channel_wants_turn(queue, state.now_us),
        };
        if wants_turn {
            actions.push(Action::Turn { host, queue });
        }
        if client.is_over() && link.is_up() && client.is_done(queue) {
            actions.push(Action::Goodbye { host, queue });
        }
        if queue == 0 {
            continue;
        }
        if !client.is_closing
            && let Some(io) = state.ledger.next(host, queue)
            && (!world.is_in_turn || state.ledger.have_ended(io))
        {
            actions.push(Action::Submit(io));
        }
        let overdue = client.channels[usize::from(queue) - 1].overdue;
        if let Some(io) = state.ledger.next_pending(host, queue, overdue)
            && io < world.deadlines
        {
            actions.push(Action::Deadline { host, queue, io });
        }
    }
    if state.left.client_deaths > 0 {
        actions.push(Action::ClientDies(host));
    }
    if state.left.failovers > 0 {
        actions.push(Action::FailsOver(host));
    }
    if state.left.bdev_deletions > 0 && !client.is_closing {
        actions.push(Action::DeleteBdev(host));
    }
}

fn each_of_wire(state: &State, key: Key, wire: &Wire, world: &World, actions: &mut Vec<Action>) {
    let is_open = wire.is_open_at_target();
    if wire.is_held {
        if !wire.down.is_empty() {
            actions.push(Action::ClientReads(key));
        }
        if !is_open {
            actions.push(Action::ClientSeesEnd(key));
        }
    }
    if is_open {
        if !wire.up.is_empty() && matches!(wire.end, End::Handshaking | End::Ready { .. }) {
            actions.push(Action::GroupReads(key));
        }
        if !wire.is_held && wire.up.is_empty() {
            actions.push(Action::GroupSeesEnd(key));
        } else if !wire.is_held && state.left.client_deaths < world.faults.client_deaths {
            actions.push(Action::FrameLost(key));
        }
        let queue = wire.queue().map_or(0, |queue| queue.place.queue);
        if wire.is_held && state.left.losses > 0 && world.may_lose(queue) {
            actions.push(Action::GroupLoses(key));
        }
        if let End::Ready { lease: Some(lease), .. } = &wire.end
            && lease.is_over(state.now_us)
        {
            actions.push(Action::LeaseOver(key));
        }
    }
    let backend = wire.queue().map(|queue| &queue.backend[..]).unwrap_or_default();
    actions.extend(backend.iter().map(|&(slot, _)| Action::BackendDone(key, slot)));
}

fn each_of_target(state: &State, number: u8, target: &Target, world: &World, actions: &mut Vec<Action>) {
    if state.left.host_removals > 0 && target.removal == Removal::NotAsked {
        actions.push(Action::RemoveHost { target: number, host: world.hosts.len() as u8 - 1 });
    }
    if !target.to_control.is_empty() {
        actions.push(Action::ControlHears(number));
    }
    if !target.to_group.is_empty() {
        actions.push(Action::GroupHears(number));
    }
    if state.left.broker_ticks > 0 {
        actions.push(Action::BrokerTick(number));
    }
    each_of_store(state, number, target, world, actions);
    if state.left.target_deaths > 0 {
        actions.push(Action::TargetDies(number));
    }
    match target.removal {
        Removal::NotAsked if state.left.export_deletions > 0 => actions.push(Action::DeleteExport(number)),
        Removal::Draining { is_resetting: true, .. } => actions.push(Action::ResetEnded(number)),
        Removal::Draining { timeouts: 0..2, .. } => actions.push(Action::DrainTimeout(number)),
        Removal::Draining { .. } | Removal::NotAsked | Removal::Gone => {}
    }
}
