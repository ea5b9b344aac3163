//! Listeners, and attempts to connect to them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::{close, make_pair};
use crate::state::Event;
use crate::state::net::{Attempt, Listener, Refused};
use crate::world::World;

/// Starts to connect the current process to an address. When there is a result, `told` is called on
/// the current thread with the number of the attempt: see [`attempt`]. Returns `None` if no thread
/// is running.
pub fn connect(w: &mut World, to: SocketAddr, told: fn(u64)) -> Option<u64> {
    let thread = w.current?;
    let process = w.current_process()?;
    let id = w.id();
    w.net.attempts.insert(id, Attempt { process, thread, to, told, result: None });
    let delay = w.rng.below(2 * w.net.config.delay_us.max(1));
    w.active();
    let at = w.now + delay;
    w.at(at, Event::Connect(id));
    Some(id)
}

/// Ends an attempt. Returns its result if there is one: the socket, or that it was refused.
pub fn attempt(w: &mut World, id: u64) -> Option<Result<u64, Refused>> {
    w.net.attempts.remove(&id)?.result
}

/// Lets an attempt reach its listener, or fail.
pub(crate) fn arrive(w: &mut World, id: u64) {
    // An attempt that waited for a blocked path was sent again when the path was healed.
    let Some(attempt) = w.net.attempts.get(&id).filter(|attempt| attempt.result.is_none()) else { return };
    let (process, thread, to) = (attempt.process, attempt.thread, attempt.to);
    match w.net.blocked.get(&(process, to)) {
        Some(&until) if until > w.now => {
            // TCP retries for longer than anybody waits here.
            if until < u64::MAX {
                let later = until + w.rng.below(20_000);
                w.at(later, Event::Connect(id));
            }
            return;
        }
        _ => {}
    }
    let found = w.net.listeners.iter().find(|(_, l)| l.addr == to).map(|(&l, state)| (l, state.process));
    let refused = w.net.refused.get(&(process, to)).is_some_and(|&until| until > w.now);
    let result = match found.filter(|_| !refused) {
        None => Err(Refused),
        Some((listener, server)) => {
            w.net.ports = w.net.ports.wrapping_add(1).max(1024);
            let from = SocketAddr::new([10, 0, 1, process as u8].into(), w.net.ports);
            let (a, b) = make_pair(w, (process, from), (server, to));
            if let Some(state) = w.net.listeners.get_mut(&listener) {
                state.backlog.push_back(b);
            }
            w.wake(server);
            w.note(|| format!("network: connection {a}-{b} from process {process} to {to}"));
            Ok(a)
        }
    };
    let Some(attempt) = w.net.attempts.get_mut(&id) else { return };
    attempt.result = Some(result);
    let told = attempt.told;
    w.tell(thread, Box::new(move || told(id)));
}

/// Starts to listen. Returns the number of the listener, or `None` if the address is in use or no
/// thread is running.
pub fn listen(w: &mut World, addr: SocketAddr) -> Option<u64> {
    let process = w.current_process()?;
    if w.net.listeners.values().any(|l| l.addr == addr) {
        return None;
    }
    let id = w.id();
    w.net.listeners.insert(id, Listener { process, addr, backlog: VecDeque::new() });
    Some(id)
}

/// Returns the next connection that waits at a listener.
pub fn accept(w: &mut World, listener: u64) -> Option<u64> {
    let sock = w.net.listeners.get_mut(&listener)?.backlog.pop_front()?;
    w.active();
    Some(sock)
}

/// Closes a listener. Connections that wait there are reset.
pub fn unlisten(w: &mut World, listener: u64) {
    let Some(state) = w.net.listeners.remove(&listener) else { return };
    for sock in state.backlog {
        close(w, sock);
    }
}

/// Drops the attempts of a process that has ended.
pub(crate) fn process_ends(w: &mut World, process: u32) {
    w.net.attempts.retain(|_, attempt| attempt.process != process);
}
