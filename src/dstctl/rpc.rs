//! JSON-RPC 2.0 over the Unix socket of an SPDK application.

use std::io::{BufReader, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Most bytes of an answer. 16,384 exports of 32 hosts each stay below it.
const ANSWER_MAX: u64 = 256 << 20;

/// JSON-RPC 2.0, section 5.1: the method does not exist.
const METHOD_NOT_FOUND: i64 = -32601;

/// What the application says instead of a result.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// A JSON-RPC code, or a negative errno.
    pub code: i64,
    /// The reason.
    pub message: String,
}

/// What became of a call that the application has answered.
pub type Answer = Result<Value, Refusal>;

/// Calls methods of an application. The tests have one that is not there.
pub trait Calls {
    /// Calls a method and returns its answer.
    ///
    /// # Errors
    /// The application cannot be asked, or does not know the method.
    fn ask(&mut self, method: &str, params: Value) -> Result<Answer, Failure>;

    /// Calls a method and returns its result.
    ///
    /// # Errors
    /// As [`Calls::ask`], or the application refuses.
    fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        self.ask(method, params)?
            .map_err(|refusal| Failure::Refused { method: method.to_owned(), message: refusal.message })
    }
}

/// An application's socket, which is connected for each call: SPDK answers calls of one connection
/// one after the other only, and an application may be restarted between two calls.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    timeout: Duration,
}

impl Socket {
    pub fn new(path: PathBuf, timeout_s: NonZeroU32) -> Socket {
        Socket { path, timeout: Duration::from_secs(timeout_s.get().into()) }
    }

    fn no_answer(&self, method: &str, why: impl ToString) -> Failure {
        Failure::NoAnswer { socket: self.path.clone(), method: method.to_owned(), why: why.to_string() }
    }
}

impl Calls for Socket {
    fn ask(&mut self, method: &str, params: Value) -> Result<Answer, Failure> {
        let mut stream = UnixStream::connect(&self.path)
            .map_err(|error| Failure::Unreachable(self.path.clone(), error))?;
        let request = request(method, params);
        stream
            .set_read_timeout(Some(self.timeout))
            .and_then(|()| stream.set_write_timeout(Some(self.timeout)))
            .and_then(|()| stream.write_all(request.to_string().as_bytes()))
            .map_err(|error| self.no_answer(method, error))?;
        let reader = BufReader::new(stream.take(ANSWER_MAX));
        let answer: Value = match serde_json::Deserializer::from_reader(reader).into_iter().next() {
            Some(Ok(answer)) => answer,
            Some(Err(error)) if error.is_io() => {
                return Err(self.no_answer(method, slow(&error, self.timeout)));
            }
            Some(Err(error)) if error.is_eof() => {
                return Err(self.no_answer(method, "the connection ended within the answer"));
            }
            Some(Err(error)) => {
                return Err(Failure::Answer { method: method.to_owned(), why: error.to_string() });
            }
            None => return Err(self.no_answer(method, "the connection ended")),
        };
        match decode(method, answer)? {
            Err(refusal) if refusal.code == METHOD_NOT_FOUND => {
                Err(Failure::NoMethod(self.path.clone(), method.to_owned()))
            }
            answer => Ok(answer),
        }
    }
}

fn slow(error: &serde_json::Error, timeout: Duration) -> String {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    match error.io_error_kind() {
        Some(TimedOut | WouldBlock) => format!("nothing for {} s (see -t)", timeout.as_secs()),
        _ => error.to_string(),
    }
}

/// Returns a request. SPDK 20.07 refuses empty parameters for methods without any.
fn request(method: &str, params: Value) -> Value {
    let mut request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
    if params.as_object().is_some_and(|params| !params.is_empty()) {
        request["params"] = params;
    }
    request
}

/// Returns what an answer says.
fn decode(method: &str, answer: Value) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(default, deserialize_with = "present")]
        result: Option<Value>,
        error: Option<Refusal>,
    }
    /// Tells a result of null from no result.
    fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(from).map(Some)
    }
    let why = |why: String| Failure::Answer { method: method.to_owned(), why };
    match serde_json::from_value(answer).map_err(|error| why(error.to_string()))? {
        Envelope { error: Some(refusal), .. } => Ok(Err(refusal)),
        Envelope { result: Some(result), .. } => Ok(Ok(result)),
        Envelope { .. } => Err(why("it has neither a result nor an error".to_owned())),
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::VecDeque;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// An application that is not there: it answers as the test has said, and notes the calls.
    #[derive(Debug, Default)]
    pub struct Script {
        pub answers: VecDeque<Answer>,
        pub calls: Vec<(String, Value)>,
    }

    impl Script {
        pub fn new(answers: impl IntoIterator<Item = Answer>) -> Script {
            Script { answers: answers.into_iter().collect(), calls: Vec::new() }
        }

        pub fn methods(&self) -> Vec<&str> {
            self.calls.iter().map(|(method, _)| &method[..]).collect()
        }
    }

    pub fn refusal(message: &str) -> Answer {
        Err(Refusal { code: -22, message: message.to_owned() })
    }

    impl Calls for Script {
        fn ask(&mut self, method: &str, params: Value) -> Result<Answer, Failure> {
            self.calls.push((method.to_owned(), params));
            Ok(self.answers.pop_front().unwrap_or_else(|| panic!("{method} was not expected")))
        }
    }

    /// Any JSON.
    pub fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec(("[a-z_]{1,8}", inner), 0..6)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    /// Serves one connection with these bytes, and asks it.
    fn asked(name: &str, bytes: &'static [u8], keep_open: bool) -> Result<Answer, Failure> {
        let path = std::env::temp_dir().join(format!("dstctl-{}-{name}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1 << 10];
            let len = stream.read(&mut request).unwrap();
            assert!(serde_json::from_slice::<Value>(&request[..len]).is_ok());
            stream.write_all(bytes).unwrap();
            if keep_open {
                // Until the other side has given up.
                assert_eq!(stream.read(&mut request).unwrap_or(0), 0);
            }
        });
        let answer = Socket::new(path.clone(), NonZeroU32::MIN).ask("m", json!({"a": 1}));
        server.join().unwrap();
        std::fs::remove_file(path).unwrap();
        answer
    }

    #[test]
    fn an_answer_ends_with_its_json() {
        let whole = br#"{"jsonrpc":"2.0","id":1,"result":[1]}"#;
        assert_eq!(asked("whole", whole, true).unwrap(), Ok(json!([1])));
        let null = br#"{"jsonrpc":"2.0","id":1,"result":null}"#;
        assert_eq!(asked("null", null, false).unwrap(), Ok(Value::Null));
        let refused = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-22,"message":"no"}}"#;
        assert_eq!(asked("refused", refused, false).unwrap(), refusal("no"));
    }

    #[test]
    fn every_way_not_to_answer_has_its_words() {
        for (name, bytes, keep_open, words) in [
            ("ended", &b""[..], false, "the connection ended; see its log"),
            ("cut", br#"{"jsonrpc""#, false, "ended within the answer"),
            ("slow", br#"{"jsonrpc""#, true, "nothing for 1 s"),
            ("garbage", b"hello", false, "not understood"),
            ("number", b"1 ", false, "not understood"),
            ("neither", br#"{"id":1}"#, false, "neither a result nor an error"),
            ("method", br#"{"error":{"code":-32601,"message":"x"}}"#, false, "has no method m"),
        ] {
            let failure = asked(name, bytes, keep_open).unwrap_err();
            assert!(failure.to_string().contains(words), "{name}: {failure}");
            assert_eq!(failure.exit_status(), 3, "{name}");
        }
        let nobody = Socket::new("/nowhere/sock".into(), NonZeroU32::MIN).ask("m", Value::Null).unwrap_err();
        assert!(nobody.to_string().contains("no application answers at /nowhere/sock"), "{nobody}");
        assert_eq!(nobody.exit_status(), 3);
    }

    #[test]
    fn parameters_are_left_out_if_there_are_none() {
        assert_eq!(request("m", json!({})).get("params"), None);
        assert_eq!(request("m", Value::Null).get("params"), None);
        assert_eq!(request("m", json!({"a": 1}))["params"], json!({"a": 1}));
    }

    proptest! {
        #[test]
        fn no_answer_panics(answer in any_json()) {
            let _ = decode("m", answer);
        }
    }
}
