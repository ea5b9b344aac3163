//! Which process owns which sockets, and what happens to the sockets when the process dies.

use std::net::SocketAddr;

use super::connecting::unlisten;
use super::{close, tidy};
use crate::state::net::Socket;
use crate::state::process::Death;
use crate::world::{World, with};

/// Takes a process's sockets and listeners back, as its kernel does.
pub(crate) fn process_dies(w: &mut World, process: u32, death: Death) {
    let listeners: Vec<u64> =
        w.net.listeners.iter().filter(|(_, l)| l.process == process).map(|(&id, _)| id).collect();
    let socks: Vec<u64> =
        w.net.socks.iter().filter(|(_, s)| s.process == process && s.open).map(|(&id, _)| id).collect();
    for id in socks {
        if death == Death::Killed {
            close(w, id);
        } else if let Some(state) = w.net.socks.get_mut(&id) {
            // Nobody is told: what is sent to this socket waits for an answer that never comes.
            state.open = false;
            let peer = state.peer;
            state.hole_until = u64::MAX;
            state.rx.clear();
            if let Some(other) = w.net.socks.get_mut(&peer) {
                other.hole_until = u64::MAX;
            }
            tidy(w, id);
        }
    }
    for id in listeners {
        unlisten(w, id);
    }
}

/// Returns the connections that are open at both ends, each as the socket that connected.
pub fn connections() -> Vec<u64> {
    with(|w| {
        let near = |(&id, s): (&u64, &Socket)| {
            (s.open && id < s.peer && w.net.socks.get(&s.peer).is_some_and(|p| p.open)).then_some(id)
        };
        w.net.socks.iter().filter_map(near).collect()
    })
}

/// Returns the open connections between a client and a server.
pub fn between(client: u32, server: u32) -> Vec<u64> {
    let all = connections();
    let of = |id: &u64| {
        with(|w| {
            let near = &w.net.socks[id];
            near.process == client && w.net.socks.get(&near.peer).is_some_and(|far| far.process == server)
        })
    };
    all.into_iter().filter(of).collect()
}

/// Returns the open connections of a client to an address.
pub fn to(client: u32, address: SocketAddr) -> Vec<u64> {
    let is_to = |sock: &u64| {
        with(|w| {
            let near = &w.net.socks[sock];
            near.process == client && near.remote == address
        })
    };
    connections().into_iter().filter(is_to).collect()
}

/// Returns the socket at the other end of the connection.
pub fn peer(sock: u64) -> Option<u64> {
    with(|w| w.net.socks.get(&sock).map(|socket| socket.peer))
}

/// Returns how many sockets a process has open.
pub fn open_sockets(process: u32) -> usize {
    with(|w| w.net.socks.values().filter(|s| s.process == process && s.open).count())
}
