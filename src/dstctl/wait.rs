//! Waiting for an application that is being started.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::WaitArguments;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::rpc::Calls;

/// The time between two attempts: short beside any start.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until the application has loaded its configuration: SPDK answers this call when it has,
/// and before that either has no socket or lets the call wait.
///
/// # Errors
/// Fails when `patience` has passed, or when the process is gone, with the reason for which the
/// last attempt failed. Fails at once if the application refuses.
pub fn wait(rpc: &mut impl Calls, args: &WaitArguments, patience: Duration) -> Result<Outcome, Failure> {
    let end = Instant::now() + patience;
    loop {
        // The process is looked for first, so that one that has just ended is asked once more.
        let is_gone = args.process.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        match rpc.call("framework_wait_init", json!({})) {
            Ok(_) => return Ok(Outcome::new(json!({"ready": true}), "the application is ready\n")),
            Err(failure @ (Failure::Unreachable(..) | Failure::NoAnswer { .. })) => {
                if is_gone {
                    return Err(Failure::Ended(Box::new(failure)));
                }
                if Instant::now() >= end {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::num::NonZeroU32;

    use serde_json::Value;

    use super::*;
    use crate::rpc::{Answer, tests::refusal};

    /// An application that cannot be asked until the script's answers begin.
    #[derive(Default)]
    struct Starting {
        attempts: VecDeque<Result<Answer, Failure>>,
    }

    impl Calls for Starting {
        fn ask(&mut self, method: &str, _params: Value) -> Result<Answer, Failure> {
            assert_eq!(method, "framework_wait_init");
            self.attempts.pop_front().unwrap_or_else(|| Err(no_socket()))
        }
    }

    fn no_socket() -> Failure {
        Failure::Unreachable("/sock".into(), io::ErrorKind::NotFound.into())
    }

    fn ended() -> Failure {
        Failure::NoAnswer {
            socket: "/sock".into(),
            method: "m".to_owned(),
            why: "the connection ended".to_owned(),
        }
    }

    fn waited(
        attempts: impl IntoIterator<Item = Result<Answer, Failure>>,
        process: Option<u32>,
    ) -> Result<u8, Failure> {
        let mut rpc = Starting { attempts: attempts.into_iter().collect() };
        let args = WaitArguments { process: process.and_then(NonZeroU32::new) };
        wait(&mut rpc, &args, Duration::ZERO).map(|outcome| outcome.status)
    }

    #[test]
    fn a_socket_that_comes_late_and_a_connection_that_ends_are_waited_for() {
        let mut rpc =
            Starting { attempts: [Err(no_socket()), Err(ended()), Ok(Ok(Value::Bool(true)))].into() };
        let args = WaitArguments { process: NonZeroU32::new(std::process::id()) };
        let outcome = wait(&mut rpc, &args, Duration::from_secs(3600)).unwrap();
        assert_eq!((outcome.status, rpc.attempts.len()), (0, 0));
    }

    #[test]
    fn waiting_ends_with_the_time_the_process_or_a_refusal() {
        let late = waited([], None).unwrap_err();
        assert!(late.to_string().starts_with("no application answers at /sock"), "{late}");
        // Linux gives no process this number: its greatest is 4,194,304 (PID_MAX_LIMIT).
        let gone = waited([], Some(u32::MAX)).unwrap_err();
        assert!(gone.to_string().starts_with("the process has ended"), "{gone}");
        assert_eq!((late.exit_status(), gone.exit_status()), (3, 3));
        let refused = waited([Ok(refusal("no"))], None).unwrap_err();
        assert_eq!(refused.to_string(), "framework_wait_init: no");
        // A process that has ended after its answer was ready once.
        assert_eq!(waited([Ok(Ok(Value::Bool(true)))], Some(u32::MAX)).unwrap(), 0);
    }
}
