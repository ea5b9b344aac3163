//! More SYNs than half-open connections may be: cookies, or the oldest goes.

use std::net::SocketAddr;

use smoltcp::wire::TcpControl;

use crate::connection::{Connection, Context, Opening};
use crate::cookie;
use crate::event::{ConnectionId, ListenerId};
use crate::mutation::{Mutation, is_on};
use crate::secret::Tuple;
use crate::segment::{Segment, ack_number, header};
use crate::send_queue::Payload;
use crate::table::Stage;

use super::{MAX_REPLIES, Reply, Stack};

/// SYNs that are answered with cookies before the list of half-open connections is gone through
/// again, which takes a while.
const COOKIES_A_LOOK: usize = 64;

impl<F: AsRef<[u8]>, B: Payload> Stack<F, B> {
    /// Makes room for a half-open connection. Returns false if there is none, and the SYN is to be
    /// answered with a cookie.
    pub(super) fn make_room(&mut self, listener: ListenerId) -> bool {
        let Some(queue) = self.listeners.get_mut(listener.0 as usize).and_then(Option::as_mut) else {
            return true;
        };
        if queue.half_open.len() < self.config.max_half_open {
            return true;
        }
        if queue.cookies_left > 0 {
            queue.cookies_left -= 1;
            return false;
        }
        // Most have been opened, or have ended, since.
        let table = &self.table;
        let is_half_open =
            |id: &ConnectionId| table.get(*id).is_some_and(|entry| entry.stage == Stage::HalfOpen(listener));
        queue.half_open.retain(is_half_open);
        if queue.half_open.len() < self.config.max_half_open {
            return true;
        }
        if self.config.syn_cookies && !is_on(Mutation::NoCookies) {
            queue.cookies_left = COOKIES_A_LOOK;
            return false;
        }
        if let Some(oldest) = queue.half_open.pop_front() {
            self.counters.half_open_evicted += 1;
            self.forget(oldest);
        }
        true
    }

    /// Answers a SYN without keeping anything.
    pub(super) fn reply_cookie(
        &mut self,
        listener: ListenerId,
        local: SocketAddr,
        remote: SocketAddr,
        tuple: Tuple,
        syn: &Segment,
        now: u64,
    ) {
        let Some(queue) = self.listeners.get_mut(listener.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        if self.replies.len() >= MAX_REPLIES {
            return;
        }
        queue.cookie_at = Some(now);
        let initial = cookie::make(&self.secret, &tuple, syn.seq, syn.mss.unwrap_or(0), now);
        let mut header = header(local, remote, initial);
        header.control = TcpControl::Syn;
        header.ack_number = ack_number(syn.seq.wrapping_add(1));
        header.window_len = self.config.initial_receive_window.min(0xffff) as u16;
        header.max_seg_size = Some(self.config.mss_for(remote.ip()));
        self.counters.cookies_sent += 1;
        self.replies.push_back(Reply { local, remote, header });
    }

    /// Takes a segment that may acknowledge a cookie. Returns the half-open connection that it
    /// stands for, which the segment will open.
    pub(super) fn redeem(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        tuple: Tuple,
        segment: &Segment,
        now: u64,
    ) -> Option<ConnectionId> {
        let listener = self.listener_for(local)?;
        let sent_at = self.listeners[listener.0 as usize].as_ref()?.cookie_at?;
        if segment.syn || segment.rst || now - sent_at >= cookie::LIFETIME {
            return None;
        }
        let (initial, peer) = (segment.ack?.wrapping_sub(1), segment.seq.wrapping_sub(1));
        let mss = match cookie::check(&self.secret, &tuple, peer, initial, now) {
            None if is_on(Mutation::NoCookieCheck) => 536,
            mss => mss?,
        };
        if self.table.len() >= self.config.max_connections {
            self.counters.table_overflows += 1;
            return None;
        }
        let syn = Segment {
            seq: peer,
            ack: None,
            syn: true,
            fin: false,
            mss: Some(mss),
            window_shift: None,
            sack_permitted: false,
            sack: [None; 3],
            timestamp: None,
            payload: 0..0,
            ..segment.clone()
        };
        let (secret, config) = (&self.secret, &self.config);
        let id = self.table.insert(tuple, Stage::HalfOpen(listener), |id| {
            let opening = Opening { initial, ..Opening::new(id, local, remote, &tuple, secret, now) };
            Connection::passive(opening, listener, &syn, config, now)
        });
        let cx = Context { now, config: &self.config, events: &mut self.events };
        self.table.get_mut(id)?.connection.syn_was_sent(&cx);
        self.counters.cookies_accepted += 1;
        Some(id)
    }
}
