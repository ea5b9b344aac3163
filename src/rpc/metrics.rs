//! The method for monitoring.

use std::rc::Rc;
use std::sync::OnceLock;
use std::time::SystemTime;

use dst_metrics::Target as TargetCounts;
use dst_metrics::mirrors::Mirror;
use dst_metrics::rows::{Bdev, Export, Listener};
use dst_target::{ExportNow, Target};
use serde_json::Value;
use spdk::rpc::Reply;

use crate::client::state_name;
use crate::params::Params;

/// When the process started, in ms since 1970, by which monitoring notices a restart.
static STARTED_MS: OnceLock<u64> = OnceLock::new();

/// Notes that the process starts.
pub fn note_start() {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    STARTED_MS.get_or_init(|| u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
}

pub fn get_metrics(params: Option<Value>, reply: Reply) {
    if let Err(error) = Params::new(params).and_then(Params::finish) {
        return reply.error(error.code, &error.message);
    }
    match Target::get() {
        None => reply.ok_text(&answer(None::<TargetCounts<'_, std::iter::Empty<Export<'_>>>>)),
        Some(target) => {
            let listeners: Vec<_> = target
                .listeners()
                .iter()
                .map(|listener| Listener {
                    address: std::net::SocketAddr::new(listener.address.addr, listener.address.port)
                        .to_string(),
                    state: if listener.waits.is_some() { "waiting" } else { "listening" },
                })
                .collect();
            target.activity(move |totals, exports| {
                let target = TargetCounts { exports: exports.map(export), listeners, totals };
                reply.ok_text(&answer(Some(target)));
            });
        }
    }
}

fn export(export: ExportNow<'_>) -> Export<'_> {
    Export {
        name: export.name,
        bdev: export.bdev_name,
        state: match (export.activity.is_deleting, export.is_online) {
            (true, _) => "deleting",
            (false, true) => "online",
            (false, false) => "offline",
        },
        activity: export.activity,
    }
}

fn mirrors() -> Vec<Mirror> {
    let shown = |mirror: &Rc<dst_mirror_bdev::Mirror>| {
        let (outstanding, waiting) = mirror.ios();
        Mirror { name: mirror.name().to_owned(), report: mirror.report(), outstanding, waiting }
    };
    dst_mirror_bdev::list().iter().map(shown).collect()
}

fn answer<'e>(target: Option<TargetCounts<'_, impl Iterator<Item = Export<'e>>>>) -> String {
    let clients = dst_client::list();
    let bdevs = clients.iter().map(|client| {
        let activity = client.activity();
        Bdev {
            name: client.name(),
            export: client.export(),
            state: state_name(activity.state),
            size_bytes: activity
                .device
                .map_or(0, |device| device.num_blocks.saturating_mul(device.block_size.into())),
            connections: activity.connections,
            channels: activity.channels,
            lost_caches: activity.lost_caches,
            counts: activity.counts,
        }
    });
    dst_metrics::answer(STARTED_MS.get().copied().unwrap_or_default(), bdevs, &mirrors(), target)
}
