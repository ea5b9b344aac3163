//! What can be set, with its default and the reason for it.

use std::net::IpAddr;

/// The settings of a [`Stack`](crate::Stack). Times are microseconds.
#[derive(Debug, Clone)]
pub struct Config {
    /// The largest payload of a segment to be received, which the SYN announces. Default: 1,460, of
    /// an MTU of 1,500 with IPv4; with IPv6 it is 20 bytes less, since the header is 20 bytes
    /// longer (RFC 6691). The interface layer sets it from its MTU.
    pub mss: u16,
    /// The largest payload handed out as one segment, which the port (TSO) or the layer below cuts
    /// to the MSS. 0: segments are never larger than the MSS.
    pub offload_bytes: u32,
    /// The receive window when a connection begins, in bytes. Default: 256 KiB.
    pub initial_receive_window: u32,
    /// What the receive window may grow to, in bytes; it decides the window scale. Default: 32 MiB,
    /// enough for 10 Gbit/s at 25 ms.
    pub max_receive_window: u32,
    /// Received frames that a connection may hold, read or not yet in order. It bounds the memory
    /// that segments of one byte cost. Default: 32,768.
    pub max_held_frames: usize,
    /// Bytes that the user may have queued and unacknowledged on a connection. Default: 64 MiB.
    pub max_send_bytes: u64,
    /// The shortest retransmission timeout. Default: 5 ms. RFC 6298 says 1 s, for networks of 2011
    /// and clocks of 500 ms; Linux has 200 ms.
    pub min_rto: u64,
    /// The longest retransmission timeout, and the longest pause between probes of a closed window.
    /// Default: 60 s (RFC 6298, 2.5).
    pub max_rto: u64,
    /// The retransmission timeout before the first round trip was measured. Default: 1 s (RFC
    /// 6298).
    pub initial_rto: u64,
    /// How long this end may delay an ACK. Default: 1 ms. RFC 9293 allows 500.
    pub ack_delay: u64,
    /// How long the peer is believed to delay ACKs before it has shown more. Default: 40 ms, which
    /// is the least that Linux delays by. No timeout is shorter.
    pub peer_ack_delay: u64,
    /// What a tail probe waits for beyond two round trips, in which no ACK was delayed. Default: 10
    /// ms. An idle kernel's ACK is later than 1 ms once in ten thousand times, and than 7 ms once in
    /// a million (docs/tcp.md); Linux waits two ticks, which are 8 ms with 250 Hz. The probe is never
    /// later than the retransmission timeout.
    pub probe_margin: u64,
    /// How long a connection attempt lasts. Default: 10 s.
    pub connect_timeout: u64,
    /// How long sent data may stay unacknowledged before the connection is given up (RFC 5482).
    /// Default: 30 s.
    pub user_timeout: u64,
    /// The silence after which a peer is probed. Default: none, since DST has its own keep-alive.
    pub keep_alive: Option<KeepAlive>,
    /// How long a closed connection is remembered. Default: 60 s, as Linux; RFC 9293 says 4
    /// minutes.
    pub time_wait: u64,
    /// Connections remembered in TIME-WAIT; the oldest is forgotten for a new one. Default: 4,096.
    pub max_time_wait: usize,
    /// How long the peer may take to send its FIN after the user closed. Default: 60 s.
    pub fin_wait: u64,
    /// Connections, in whatever state. Default: 16,384.
    pub max_connections: usize,
    /// Half-open connections of one listener. Default: 1,024.
    pub max_half_open: usize,
    /// Whether SYNs beyond `max_half_open` are answered with cookies (RFC 4987), which keep
    /// nothing; such connections have no SACK, no timestamps and no window scaling. Otherwise the
    /// oldest half-open connection is forgotten for a new one. Default: yes.
    pub syn_cookies: bool,
    /// Offers selective acknowledgements (RFC 2018). Default: yes.
    pub sack: bool,
    /// Offers timestamps (RFC 7323). Default: yes.
    pub timestamps: bool,
    /// Offers window scaling (RFC 7323). Default: yes.
    pub window_scaling: bool,
}

/// When and how often a silent peer is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// The silence before the first probe.
    pub idle: u64,
    /// The pause between probes.
    pub interval: u64,
    /// Unanswered probes after which the connection is given up.
    pub probes: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mss: 1460,
            offload_bytes: 0,
            initial_receive_window: 256 << 10,
            max_receive_window: 32 << 20,
            max_held_frames: 32_768,
            max_send_bytes: 64 << 20,
            min_rto: 5_000,
            max_rto: 60_000_000,
            initial_rto: 1_000_000,
            ack_delay: 1_000,
            peer_ack_delay: 40_000,
            probe_margin: 10_000,
            connect_timeout: 10_000_000,
            user_timeout: 30_000_000,
            keep_alive: None,
            time_wait: 60_000_000,
            max_time_wait: 4_096,
            fin_wait: 60_000_000,
            max_connections: 16_384,
            max_half_open: 1_024,
            syn_cookies: true,
            sack: true,
            timestamps: true,
            window_scaling: true,
        }
    }
}

/// What IPv6's header is longer by than IPv4's.
const IPV6_EXTRA: u16 = 20;

impl Config {
    /// Returns the largest payload of a segment from this peer.
    pub(crate) fn mss_for(&self, remote: IpAddr) -> u16 {
        if remote.is_ipv6() { self.mss.saturating_sub(IPV6_EXTRA) } else { self.mss }
    }

    /// Returns the window scale that announces the largest receive window (RFC 7323, 2.2: at most
    /// 14).
    pub fn window_shift(&self) -> u8 {
        let mut shift = 0;
        while shift < 14 && (self.max_receive_window >> shift) > 0xffff {
            shift += 1;
        }
        shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_scale_is_the_smallest_that_suffices() {
        for (window, shift) in [(0xffff, 0), (0x10000, 1), (32 << 20, 10), (u32::MAX, 14)] {
            assert_eq!(Config { max_receive_window: window, ..Config::default() }.window_shift(), shift);
        }
    }
}
