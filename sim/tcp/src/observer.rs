//! A check of every packet: no host sends more than its peer has allowed.

use std::collections::BTreeMap;

use smoltcp::wire::TcpPacket;

use crate::network::Packet;

#[derive(Debug, Default, Clone, Copy)]
struct Side {
    /// The window scale in the side's SYN.
    shift: Option<u8>,
    /// The end of the window that the side has announced.
    edge: Option<u32>,
}

/// Watches the packets of all connections.
#[derive(Debug, Default)]
pub struct Observer {
    /// The sides, by the client's port and the host's number.
    sides: BTreeMap<(u16, usize), Side>,
}

impl Observer {
    /// Checks a packet that host `from` sends; `client` is the host that connects. Returns a
    /// violation, if there is one.
    pub fn see(&mut self, from: usize, client: usize, packet: &Packet) -> Option<String> {
        let tcp = TcpPacket::new_checked(&packet.bytes[..]).ok()?;
        let port = if from == client { tcp.src_port() } else { tcp.dst_port() };
        let options = tcp.options_summary().ok()?;
        if tcp.rst() {
            return None;
        }
        let other = self.sides.get(&(port, 1 - from)).copied().unwrap_or_default();
        let side = self.sides.entry((port, from)).or_default();
        if tcp.syn() {
            side.shift = options.window_scale;
        }
        if tcp.ack() {
            let scaled = side.shift.is_some() && other.shift.is_some() && !tcp.syn();
            let window = u32::from(tcp.window_len()) << if scaled { side.shift.unwrap_or(0) } else { 0 };
            let edge = (tcp.ack_number().0.cast_unsigned()).wrapping_add(window);
            if side.edge.is_none_or(|before| edge.wrapping_sub(before).cast_signed() > 0) {
                side.edge = Some(edge);
            }
        }
        let length = tcp.segment_len() as u32;
        let end = tcp.seq_number().0.cast_unsigned().wrapping_add(length);
        let beyond = end.wrapping_sub(other.edge?).cast_signed();
        (length > 0 && !tcp.syn() && beyond > 0)
            .then(|| format!("host {from} sends {beyond} bytes more than it may"))
    }
}

/// Prints a packet in the manner of tcpdump.
pub fn print(now: u64, from: usize, packet: &Packet) {
    let Ok(tcp) = TcpPacket::new_checked(&packet.bytes[..]) else {
        return println!("{now} {from}: malformed");
    };
    let flags = [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.psh(), 'P'), (tcp.ack(), '.')];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    let seq = tcp.seq_number().0.cast_unsigned();
    println!(
        "{now} host {from} :{}>{} [{flags}] seq {seq}+{} ack {} win {} {:?}",
        tcp.src_port(),
        tcp.dst_port(),
        packet.bytes.len() - usize::from(tcp.header_len()),
        tcp.ack_number().0.cast_unsigned(),
        tcp.window_len(),
        tcp.options_summary(),
    );
}
