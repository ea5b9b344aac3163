//! What breaks a network, for the driver to call.

use std::net::SocketAddr;

use super::push;
use crate::state::Event;
use crate::state::net::End;
use crate::world::with;

/// Cuts a connection after a random byte of what is under way, each direction for itself. Each side
/// hears of an end or of a reset, and one of them maybe nothing.
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

/// The client's side of a connection is reset at once; what it has sent still arrives at the other
/// side, after a time, and then the end.
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

/// Has new connections of a process to an address refused for a time, µs.
pub fn refuse(process: u32, to: SocketAddr, for_us: u64) {
    with(|w| {
        let until = w.now.saturating_add(for_us);
        w.net.refused.insert((process, to), until);
    });
}

/// Keeps back what is sent on a connection for a time, µs, in one direction or both.
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

/// Leaves new connections of a process to an address without an answer for a time, µs.
pub fn block(process: u32, to: SocketAddr, for_us: u64) {
    with(|w| {
        let until = w.now.saturating_add(for_us);
        w.net.blocked.insert((process, to), until);
    });
}

/// Ends all faults that still go on. Connections of which one side heard nothing stay dead.
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
        // Attempts that nobody would have answered.
        let attempts: Vec<u64> =
            w.net.attempts.iter().filter(|(_, a)| a.result.is_none()).map(|(&id, _)| id).collect();
        for id in attempts {
            let now = w.now;
            w.at(now, Event::Connect(id));
        }
    });
}
