//! The faults of a network, for the driver to call.

use std::net::SocketAddr;

use super::push;
use crate::state::Event;
use crate::state::net::End;
use crate::world::with;

/// Cuts a connection after a random byte of those on their way, independently for each direction.
/// Each side sees an end or a reset, or one of them perhaps nothing.
pub fn cut(connection: u64) {
    with(|w| {
        let Some(peer) = w.net.socks.get(&connection).map(|s| s.peer) else { return };
        let deaf = if w.rng.chance(150) { Some(w.rng.pick(&[connection, peer])) } else { None };
        w.note(|| format!("network: connection {connection}-{peer} is cut"));
        for sock in [connection, peer] {
            let dice = w.rng.bits();
            let Some(state) = w.net.socks.get_mut(&sock) else { continue };
            let mut keep = (dice % (state.under_way_bytes as u64 + 1)) as usize;
            state.under_way.retain_mut(|segment| {
                let n = segment.bytes.len().min(keep);
                segment.bytes.truncate(n);
                keep -= n;
                n > 0
            });
            state.under_way_bytes = state.under_way.iter().map(|segment| segment.bytes.len()).sum();
            if deaf == Some(sock) {
                state.hole_until = u64::MAX;
                continue;
            }
            if state.hole_until < u64::MAX {
                state.hole_until = 0;
            }
            let end = w.rng.pick(&[End::Fin, End::Reset]);
            push(w, sock, Vec::new(), Some(end));
        }
    });
}

/// Resets the client's side of a connection at once. What the client has sent still arrives at the
/// other side after a time, followed by a reset.
pub fn sever(connection: u64, late_us: u64) {
    with(|w| {
        let Some(peer) = w.net.socks.get(&connection).map(|s| s.peer) else { return };
        w.note(|| {
            format!("network: connection {connection}-{peer} is severed, the rest arrives {late_us} us later")
        });
        if let Some(state) = w.net.socks.get_mut(&connection) {
            state.under_way.clear();
            state.under_way_bytes = 0;
            state.hole_until = 0;
        }
        push(w, connection, Vec::new(), Some(End::Reset));
        let until = w.now + late_us;
        if let Some(state) = w.net.socks.get_mut(&peer) {
            state.hole_until = state.hole_until.max(until);
        }
        push(w, peer, Vec::new(), Some(End::Reset));
        w.at(until, Event::Deliver(peer));
    });
}

/// Refuses a process's new connections to an address for a time, in µs.
pub fn refuse(process: u32, to: SocketAddr, for_us: u64) {
    with(|w| {
        let until = w.now.saturating_add(for_us);
        w.net.refused.insert((process, to), until);
    });
}

/// Holds back what is sent on a connection for a time, in µs, in one direction or both.
pub fn black_hole(connection: u64, there: bool, back: bool, for_us: u64) {
    with(|w| {
        let Some(peer) = w.net.socks.get(&connection).map(|s| s.peer) else { return };
        let until = w.now.saturating_add(for_us);
        w.note(|| {
            format!("network: connection {connection}-{peer} black-holed for {for_us} us: there {there}, back {back}")
        });
        for (sock, wanted) in [(peer, there), (connection, back)] {
            if let Some(state) = w.net.socks.get_mut(&sock).filter(|_| wanted)
                && state.hole_until < until
            {
                state.hole_until = until;
                w.at(until, Event::Deliver(sock));
            }
        }
    });
}

/// Leaves a process's new connections to an address unanswered for a time, in µs.
pub fn block(process: u32, to: SocketAddr, for_us: u64) {
    with(|w| {
        let until = w.now.saturating_add(for_us);
        w.net.blocked.insert((process, to), until);
    });
}

/// Ends all faults that are still in effect. Connections that only one side saw end stay dead.
pub fn heal() {
    with(|w| {
        w.net.blocked.clear();
        w.net.refused.clear();
        let socks: Vec<u64> = w.net.socks.keys().copied().collect();
        for sock in socks {
            if let Some(state) = w.net.socks.get_mut(&sock).filter(|state| state.hole_until < u64::MAX) {
                state.hole_until = 0;
            }
            let now = w.now;
            w.at(now, Event::Deliver(sock));
        }
        // Attempts to connect that would otherwise never have been answered.
        let attempts: Vec<u64> =
            w.net.attempts.iter().filter(|(_, a)| a.result.is_none()).map(|(&id, _)| id).collect();
        for id in attempts {
            let now = w.now;
            w.at(now, Event::Connect(id));
        }
    });
}
