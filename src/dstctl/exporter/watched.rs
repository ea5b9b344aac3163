//! An application that is asked at each scrape.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::answer::Answer;
use crate::failure::Failure;
use crate::rpc::{Calls, Socket};

/// An application, and what the exporter remembers of it.
pub struct Watched {
    path: PathBuf,
    timeout: NonZeroU32,
    /// Locked while the application is asked, so that it has one question at a time.
    memory: Mutex<Memory>,
}

/// What is remembered from one scrape to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Memory {
    /// When the process that answered last had started, in ms since 1970.
    start_time_ms: Option<u64>,
    /// How often another process answered than before.
    restarts: u64,
    /// How often no answer came.
    failures: u64,
    /// Whether the last failure was reported on standard error.
    is_reported: bool,
}

/// The outcome of one scrape of one application.
#[derive(Debug)]
pub struct Look {
    /// The application's socket.
    pub socket: String,
    /// The answer, or `None` if the application does not run or is not understood.
    pub answer: Option<Answer>,
    /// How often the application was found restarted since the exporter began.
    pub restarts: u64,
    /// How often the application did not answer since the exporter began.
    pub failures: u64,
    /// The time that the application took.
    pub took: Duration,
}

impl Watched {
    pub fn new(path: PathBuf, timeout: NonZeroU32) -> Watched {
        Watched { path, timeout, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the application.
    pub fn look(&self) -> Look {
        let began = Instant::now();
        let answer = ask(&mut Socket::new(self.path.clone(), self.timeout));
        let took = began.elapsed();
        // Not before: another scrape must not wait for an application that hangs.
        let mut memory = self.memory();
        let (answer, report) = memory.note(answer);
        if let Some(report) = report {
            eprintln!("dstctl: {report}");
        }
        self.told(&memory, answer, took)
    }

    /// Returns the outcome of a scrape that did not end.
    pub fn lost(&self) -> Look {
        let mut memory = self.memory();
        memory.failures += 1;
        self.told(&memory, None, Duration::ZERO)
    }

    fn told(&self, memory: &Memory, answer: Option<Answer>, took: Duration) -> Look {
        let socket = self.path.to_string_lossy().into_owned();
        Look { socket, answer, restarts: memory.restarts, failures: memory.failures, took }
    }
}

fn ask(rpc: &mut impl Calls) -> Result<Answer, Failure> {
    let method = "dst_get_metrics";
    let answer = rpc.call(method, json!({}))?;
    serde_json::from_value(answer)
        .map_err(|error| Failure::Answer { method: method.to_owned(), why: error.to_string() })
}

impl Memory {
    /// Notes the outcome of a question. Returns the answer, and what to report, if the outcome is
    /// another one than before.
    fn note(&mut self, answer: Result<Answer, Failure>) -> (Option<Answer>, Option<Failure>) {
        match answer {
            Ok(answer) => {
                let before = self.start_time_ms.replace(answer.start_time_ms);
                self.restarts += u64::from(before.is_some_and(|before| before != answer.start_time_ms));
                self.is_reported = false;
                (Some(answer), None)
            }
            Err(failure) => {
                self.failures += 1;
                let was_reported = std::mem::replace(&mut self.is_reported, true);
                (None, (!was_reported).then_some(failure))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::tests::{Script, refusal};

    #[test]
    fn restarts_and_failures_are_counted_and_a_failure_is_reported_once() {
        let started = |start_time_ms: u64| Ok(json!({"start_time_ms": start_time_ms}));
        let answers = [
            refusal("no"),
            started(5),
            started(5),
            refusal("no"),
            refusal("no"),
            Ok(json!({"start_time_ms": "x"})),
            started(5),
            started(9),
        ];
        let mut script = Script::new(answers);
        let mut memory = Memory::default();
        let mut told = Vec::new();
        for _ in 0..8 {
            let (answer, report) = memory.note(ask(&mut script));
            told.push((answer.is_some(), report.is_some(), memory.restarts, memory.failures));
        }
        let (up, down) = (true, false);
        assert_eq!(
            told,
            [
                (down, true, 0, 1),
                (up, false, 0, 1),
                (up, false, 0, 1),
                (down, true, 0, 2),
                (down, false, 0, 3),
                (down, false, 0, 4),
                (up, false, 0, 4),
                (up, false, 1, 4),
            ]
        );
        assert_eq!(script.calls[0], ("dst_get_metrics".to_owned(), json!({})));
    }

    #[test]
    fn an_application_that_is_not_there_is_a_look_like_any_other() {
        let watched = Watched::new("/nowhere/sock".into(), NonZeroU32::MIN);
        assert_eq!((watched.look().failures, watched.lost().failures), (1, 2));
    }
}
