//! The state of an application at one moment. Fields that this version of dstctl does not know are
//! ignored, since fields may be added to the RPCs.

mod mirror;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::rpc::Calls;
pub use mirror::{Device as MirrorDevice, Member, MemberState, Mirror, MirrorState, Verification, Witness};

/// `ENODEV`, the answer of the target's methods while the application starts or stops.
const NO_TARGET: i64 = -19;

/// The state of an application in both roles, target and client.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Snapshot {
    pub exports: Vec<Export>,
    pub listeners: Vec<Listener>,
    pub sessions: Vec<Session>,
    pub bdevs: Vec<Bdev>,
    #[serde(default)]
    pub mirrors: Vec<Mirror>,
}

/// An export of the target.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Export {
    pub name: String,
    pub bdev_name: String,
    /// The reason why the export has no bdev.
    #[serde(default)]
    pub offline_reason: Option<String>,
    #[serde(default)]
    pub block_size: Option<u64>,
    #[serde(default)]
    pub num_blocks: Option<u64>,
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// The ownership of the export, or `None` if it cannot be owned.
    #[serde(default)]
    pub ownership: Option<Ownership>,
    /// The number of the export's sessions.
    #[serde(default)]
    pub sessions: u64,
    /// The reason why clients may see a different device after a restart.
    #[serde(default)]
    pub uuid_warning: Option<String>,
    /// Whether the export is being deleted.
    #[serde(default)]
    pub deleting: bool,
}

/// An entry in an export's access list.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Host {
    pub host: String,
    pub access: String,
    /// The prefixes of the addresses that the host may connect from; without any, all.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Where the host's key is: in a file, or in SPDK's keyring.
    #[serde(default)]
    pub psk_file: Option<String>,
    #[serde(default)]
    pub psk: Option<String>,
    /// The reason why the host's key could not be read when it was last needed.
    #[serde(default)]
    pub key_error: Option<String>,
}

/// The ownership of an export.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Ownership {
    /// `free`, `owned`, `changing`, `doubtful`, or `unknown`.
    pub state: String,
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub since: Option<String>,
    /// The hosts that wait to own the export.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
    /// The reason why the owner is not known.
    #[serde(default)]
    pub why: Option<String>,
}

/// A client that waits to own an export.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Waiting {
    /// The host of the client.
    pub host: String,
    /// The age of the client's attempt, ms.
    pub waiting_ms: u64,
}

/// An address at which the target accepts connections.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Listener {
    pub traddr: String,
    pub trsvcid: String,
    /// The state, if the application reports one.
    #[serde(default)]
    pub state: Option<String>,
    #[serde(default)]
    pub last_error: Option<String>,
}

/// A session of a client at the target.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Session {
    pub id: String,
    pub export: String,
    pub host: String,
    pub peer: String,
    #[serde(default)]
    pub age_ms: u64,
    #[serde(default)]
    pub queues: Vec<Connection>,
    #[serde(default)]
    pub digest: String,
    #[serde(default)]
    pub cipher: String,
    #[serde(default)]
    pub counters: SessionCounters,
}

/// The target's counters of a session.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SessionCounters {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub other_operations: u64,
}

/// A connection of a session.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Connection {
    pub state: String,
    /// The number of the connection's requests that the backend has.
    #[serde(default)]
    pub in_flight: u64,
}

/// A bdev that this application has attached.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Bdev {
    pub name: String,
    traddr: Value,
    pub trsvcid: String,
    pub export: String,
    pub state: State,
    /// How long the bdev has been in this state, ms.
    #[serde(default)]
    pub state_age_ms: u64,
    #[serde(default)]
    pub last_error: Option<String>,
    /// The number of the bdev's transactions that were sent and are not answered yet.
    #[serde(default)]
    pub outstanding: u64,
    /// The number of the bdev's I/Os that were not sent yet.
    #[serde(default)]
    pub waiting: u64,
    #[serde(default)]
    pub negotiated: Option<Device>,
    #[serde(default)]
    pub counters: Counters,
    /// The number of the bdev's connections that are up.
    #[serde(default)]
    pub connections: u64,
    #[serde(default)]
    pub latency_us: Latencies,
}

/// The latencies of a bdev's I/O since it was attached.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Latencies {
    pub read: Vec<Bucket>,
    pub write: Vec<Bucket>,
    pub other: Vec<Bucket>,
}

/// A bucket of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Bucket {
    /// The upper bound, exclusive, µs.
    pub below_us: u64,
    pub count: u64,
}

/// The bdev layer's counters of a bdev.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IoStat {
    pub name: String,
    #[serde(default)]
    pub bytes_read: u64,
    #[serde(default)]
    pub bytes_written: u64,
}

/// The state of a bdev.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Attaching,
    Connected,
    Reconnecting,
    /// I/O fails at once until there is a connection again.
    Unreachable,
    Failed,
    /// A state that this version of dstctl does not know.
    #[serde(untagged)]
    Other(String),
}

impl State {
    /// Returns the name that the RPC uses.
    pub fn name(&self) -> &str {
        match self {
            State::Attaching => "attaching",
            State::Connected => "connected",
            State::Reconnecting => "reconnecting",
            State::Unreachable => "unreachable",
            State::Failed => "failed",
            State::Other(name) => name,
        }
    }
}

/// The device that was negotiated for a bdev.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Device {
    pub num_blocks: u64,
    pub block_size: u64,
    #[serde(default)]
    pub read_only: bool,
}

impl Device {
    /// Returns the size in bytes.
    pub fn bytes(&self) -> u64 {
        self.num_blocks.saturating_mul(self.block_size)
    }
}

/// The counters of a bdev since it was attached.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Transactions that have ended.
    pub transactions: u64,
    /// Data that arrived with a wrong digest.
    pub corrupt: u64,
    /// Outages in which a target may have lost writes that were not flushed.
    pub lost_caches: u64,
}

impl Bdev {
    /// Returns the export in the form that `dstctl attach` takes.
    pub fn source(&self) -> String {
        let bracketed = |address: &str| {
            if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
        };
        let addresses = match &self.traddr {
            Value::String(address) => bracketed(address),
            Value::Array(all) => {
                all.iter().filter_map(Value::as_str).map(bracketed).collect::<Vec<_>>().join(",")
            }
            _ => "?".to_owned(),
        };
        format!("{addresses}:{}/{}", self.trsvcid, self.export)
    }
}

impl Export {
    /// Returns the name of the export's state.
    pub fn state(&self) -> &'static str {
        match (self.deleting, &self.offline_reason) {
            (true, _) => "deleting",
            (false, Some(_)) => "offline",
            (false, None) => "online",
        }
    }

    /// Returns the size in bytes, if the export has a bdev.
    pub fn bytes(&self) -> Option<u64> {
        Some(self.block_size?.saturating_mul(self.num_blocks?))
    }
}

/// Asks the application for its whole state.
///
/// # Errors
/// Fails if the application cannot be asked, refuses, or gives an answer that is not understood.
pub fn take(rpc: &mut impl Calls) -> Result<Snapshot, Failure> {
    Ok(Snapshot {
        exports: exports(rpc, None)?,
        listeners: list(rpc, "dst_get_listeners", json!({}))?,
        sessions: list(rpc, "dst_get_sessions", json!({}))?,
        bdevs: bdevs(rpc, None)?,
        mirrors: mirrors(rpc)?,
    })
}

/// Asks for all exports, or for the one with this name.
///
/// # Errors
/// Fails as [`take`] does.
pub fn exports(rpc: &mut impl Calls, name: Option<&str>) -> Result<Vec<Export>, Failure> {
    list(rpc, "dst_get_exports", filter(name))
}

/// Asks for all of DST's bdevs, or for the one with this name.
///
/// # Errors
/// Fails as [`take`] does.
pub fn bdevs(rpc: &mut impl Calls, name: Option<&str>) -> Result<Vec<Bdev>, Failure> {
    list(rpc, "bdev_dst_get_info", filter(name))
}

/// Asks for all mirrors. An application of a version without mirrors has none.
fn mirrors(rpc: &mut impl Calls) -> Result<Vec<Mirror>, Failure> {
    match list(rpc, "bdev_dst_mirror_get_info", json!({})) {
        Err(Failure::NoMethod(..)) => Ok(Vec::new()),
        answer => answer,
    }
}

/// Asks for the bdev layer's statistics of all bdevs.
///
/// # Errors
/// Fails as [`take`] does.
pub fn iostat(rpc: &mut impl Calls) -> Result<Vec<IoStat>, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        bdevs: Vec<IoStat>,
    }
    let method = "bdev_get_iostat";
    let answer: Answer = serde_json::from_value(rpc.call(method, json!({}))?)
        .map_err(|error| Failure::Answer { method: method.to_owned(), why: error.to_string() })?;
    Ok(answer.bdevs)
}

fn filter(name: Option<&str>) -> Value {
    name.map_or(json!({}), |name| json!({"name": name}))
}

fn list<T: DeserializeOwned>(rpc: &mut impl Calls, method: &str, params: Value) -> Result<Vec<T>, Failure> {
    let answer = match rpc.ask(method, params)? {
        Ok(answer) => answer,
        Err(refusal) if refusal.code == NO_TARGET && method.starts_with("dst_") => return Ok(Vec::new()),
        Err(refusal) => {
            return Err(Failure::Refused { method: method.to_owned(), message: refusal.message });
        }
    };
    serde_json::from_value(answer)
        .map_err(|error| Failure::Answer { method: method.to_owned(), why: error.to_string() })
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rpc::tests::{Script, any_json};
    use crate::rpc::{Answer, Refusal};

    /// Returns the snapshot in this JSON.
    pub fn snapshot(value: Value) -> Snapshot {
        serde_json::from_value(value).unwrap()
    }

    /// Returns what `bdev_dst_mirror_get_info` has shown of a mirror that lacks a member and its
    /// witness.
    pub fn recorded_mirror() -> Value {
        json!({
            "block_size": 4096,
            "counters": {"copied_blocks": 0, "departures": 1, "flushes": 7, "lost_caches": 0, "read_errors": 0,
                         "reads": 20, "records": 3, "repaired_blocks": 0, "writes": 30},
            "deleting": false,
            "devices": [
                {"bdev_name": "Member0", "device": "Member0", "reason": null, "requests": 0, "role": "member",
                 "state": "open"},
                {"bdev_name": null, "device": "Member1",
                 "reason": "there is no bdev with the name or UUID `Member1`", "requests": 0, "role": "member",
                 "state": "waiting"},
                {"bdev_name": null, "device": "Witness0",
                 "reason": "there is no bdev with the name or UUID `Witness0`", "requests": 0, "role": "witness",
                 "state": "waiting"},
            ],
            "generation": "867d58fa-10dd-aafd-9dbf-3986b59ab47a",
            "hot_regions": 0,
            "members": [
                {"device": "Member0", "id": "f9f9c789-18d0-1300-1516-658a509cb63f", "name": "Member0",
                 "state": "in_sync"},
                {"blocks_missed": 3, "device": "Member1", "id": "ab38f858-1ba0-8cd4-0bc1-ec8690d97140",
                 "missing_ms": 2173, "name": "Member1", "reason": "the bdev was removed", "state": "missing"},
            ],
            "name": "Mirror0",
            "num_blocks": 14304,
            "options": {"degraded_wait_ms": 5000},
            "outstanding": 4,
            "reason": null,
            "record": 1_099_511_627_779_u64,
            "region_blocks": 256,
            "state": "degraded",
            "uuid": "2ce840e0-4d77-186f-8ec8-659ec7b5d7c7",
            "verification": null,
            "waiting": 1,
            "witness": {"id": "46f35092-ba0e-6889-8cdd-5d06b1ca5575", "is_current": false, "name": "Witness0",
                        "reason": "the bdev was removed"},
        })
    }

    #[test]
    fn a_source_is_what_attach_takes() {
        let bdev = |traddr| {
            let bdev =
                json!({"name": "b", "traddr": traddr, "trsvcid": "1", "export": "e", "state": "new state"});
            serde_json::from_value::<Bdev>(bdev).unwrap()
        };
        assert_eq!(bdev(json!("10.0.0.1")).source(), "10.0.0.1:1/e");
        assert_eq!(bdev(json!(["::1", "a"])).source(), "[::1],a:1/e");
        assert_eq!(bdev(json!(5)).source(), "?:1/e");
        assert_eq!(bdev(json!("a")).state.name(), "new state");
        assert!(bdev(json!("[::1]")).source().parse::<crate::values::Source>().is_ok());
    }

    #[test]
    fn an_application_without_a_target_has_no_exports() {
        let none = || Err(Refusal { code: NO_TARGET, message: "not running".to_owned() });
        let mut script = Script::new([none(), none(), none(), Ok(json!([])), Ok(json!([]))]);
        assert_eq!(take(&mut script).unwrap(), Snapshot::default());
        let failure = bdevs(&mut Script::new([none()]), Some("x")).unwrap_err();
        assert_eq!(failure.to_string(), "bdev_dst_get_info: not running");
        let failure = exports(&mut Script::new([Ok(json!([{"name": 5}]))]), None).unwrap_err();
        assert!(failure.to_string().contains("not understood: invalid type"), "{failure}");
    }

    /// An application of a version without mirrors.
    struct WithoutMirrors;

    impl Calls for WithoutMirrors {
        fn ask(&mut self, method: &str, _params: Value) -> Result<Answer, Failure> {
            match method.contains("mirror") {
                true => Err(Failure::NoMethod("/sock".into(), method.to_owned())),
                false => Ok(Ok(json!([]))),
            }
        }
    }

    #[test]
    fn an_application_of_a_version_without_mirrors_has_none() {
        assert_eq!(take(&mut WithoutMirrors).unwrap(), Snapshot::default());
        let failure = list::<Mirror>(&mut WithoutMirrors, "bdev_dst_mirror_find", json!({})).unwrap_err();
        assert!(failure.to_string().contains("has no method"), "{failure}");
    }

    proptest! {
        #[test]
        fn no_answer_panics(answers in prop::collection::vec(any_json(), 5)) {
            if let Ok(found) = take(&mut Script::new(answers.into_iter().map(Ok))) {
                let _ = crate::status::show(&found);
            }
        }
    }
}
