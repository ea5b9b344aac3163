//! An HTTP server for one resource, `/metrics`. Each connection carries one request, and is bounded
//! in its bytes and its time; so is the number of connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// The maximum number of connections at once: a few servers that scrape, and people who look.
const CONNECTIONS_MAX: usize = 16;

/// The maximum length of a request's line and headers in bytes. Prometheus sends some 300.
const REQUEST_MAX: usize = 8 << 10;

/// The time that a client has to send its request, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the server waits after a failure to accept a connection, which comes from a lack of open
/// files or memory and would repeat at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The content type of Prometheus's text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers requests until the process is ended.
///
/// # Errors
/// Never returns without an error, and none is known that ends the server.
pub fn serve(listener: &TcpListener, metrics: &(dyn Fn() -> String + Sync)) -> Result<(), Failure> {
    let open = AtomicUsize::new(0);
    thread::scope(|scope| {
        for accepted in listener.incoming() {
            let Ok(stream) = accepted else {
                thread::sleep(ACCEPT_RETRY);
                continue;
            };
            if open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Relaxed);
                // Closed without an answer, which might take time to send.
                continue;
            }
            let place = Place(&open);
            // If there is no thread, the closure is dropped, and the connection and its place with it.
            let _ = thread::Builder::new().spawn_scoped(scope, move || {
                let _place = place;
                converse(stream, metrics);
            });
        }
    });
    Ok(())
}

/// A connection's place among [`CONNECTIONS_MAX`], given back at the end even after a panic.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Metrics,
    /// The page at `/`, for people.
    Index,
    Error(&'static str),
}

/// Answers the one request of a connection. A client that is gone or too slow gets none.
fn converse(mut stream: TcpStream, metrics: &dyn Fn() -> String) {
    let Some(reply) = read_request(&mut stream, Instant::now() + PATIENCE) else { return };
    let (status, kind, body) = match reply {
        Reply::Metrics => ("200 OK", TEXT_FORMAT, metrics()),
        Reply::Index => {
            ("200 OK", "text/html; charset=utf-8", "<a href=\"/metrics\">DST metrics</a>\n".into())
        }
        Reply::Error(status) => (status, "text/plain; charset=utf-8", format!("{status}\n")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let until = Instant::now() + PATIENCE;
    if write(&mut stream, head.as_bytes(), until)
        .and_then(|()| write(&mut stream, body.as_bytes(), until))
        .is_some()
    {
        // An error means that the client has closed the connection first.
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// Reads a request and returns the answer to it, or `None` if the client is gone or too slow.
fn read_request(stream: &mut TcpStream, until: Instant) -> Option<Reply> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(until)?)).ok()?;
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(len) => request.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
        if let Some(reply) = decide(&request) {
            return Some(reply);
        }
    }
}

/// Returns the answer to a request as soon as all of its headers are there.
fn decide(request: &[u8]) -> Option<Reply> {
    let ends = |end: &[u8]| request.windows(end.len()).any(|window| window == end);
    if !ends(b"\r\n\r\n") && !ends(b"\n\n") {
        let is_long = request.len() > REQUEST_MAX;
        return is_long.then_some(Reply::Error("431 Request Header Fields Too Large"));
    }
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [method, path, version] = words[..] else { return Some(Reply::Error("400 Bad Request")) };
    if !version.starts_with("HTTP/1.") {
        return Some(Reply::Error("400 Bad Request"));
    }
    let path = path.split('?').next().unwrap_or_default();
    Some(match (method, path) {
        ("GET", "/metrics") => Reply::Metrics,
        ("GET", "/") => Reply::Index,
        ("GET", _) => Reply::Error("404 Not Found"),
        _ => Reply::Error("405 Method Not Allowed"),
    })
}

/// Writes all bytes, or returns `None` if the client is gone or too slow.
fn write(stream: &mut TcpStream, mut bytes: &[u8], until: Instant) -> Option<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?)).ok()?;
        match stream.write(bytes) {
            Ok(0) => return None,
            Ok(len) => bytes = bytes.get(len..)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(())
}

/// Returns the time left, or `None` if there is none.
fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    /// Starts a server that runs until the test's process ends.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener, &|| "m 1\n".to_owned()));
        address
    }

    fn asked(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn each_request_has_its_answer() {
        let address = server();
        let answer = asked(address, b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
                    Content-Length: 4\r\nConnection: close\r\n\r\n";
        assert_eq!(answer, format!("{head}m 1\n"));
        for (request, status) in [
            (&b"GET / HTTP/1.0\r\n\r\n"[..], "200 OK"),
            (b"GET /metrics HTTP/1.1\n\n", "200 OK"),
            (b"GET /other HTTP/1.1\r\n\r\n", "404 Not Found"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            (b"GET /metrics\r\n\r\n", "400 Bad Request"),
            (b"GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
            (b"\xff\xfe\r\n\r\n", "400 Bad Request"),
            (b"\r\n\r\n", "400 Bad Request"),
        ] {
            let answer = asked(address, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer}");
        }
    }

    #[test]
    fn silent_clients_hold_no_more_than_all_places_and_only_for_a_time() {
        let address = server();
        let mut silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        for stream in &mut silent {
            stream.write_all(b"GET /met").unwrap();
        }
        let mut crowded = TcpStream::connect(address).unwrap();
        let mut answer = Vec::new();
        // Closed at once, or reset if the request came before that.
        let _ = crowded.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
        assert!(crowded.read_to_end(&mut answer).unwrap_or(0) == 0, "{answer:?}");
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the server waits for ever");
        }
        // The places are free again soon after the connections are closed.
        let began = Instant::now();
        let request = b"GET /metrics HTTP/1.1\r\n\r\n";
        loop {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut answer = String::new();
            let _ = stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer));
            if answer.ends_with("m 1\n") {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the places stay taken");
        }
    }

    proptest! {
        #[test]
        fn no_request_panics_or_stays_undecided(bytes in prop::collection::vec(any::<u8>(), 0..64), long in any::<bool>()) {
            let mut request = bytes;
            let _ = decide(&request);
            request.resize(if long { REQUEST_MAX + 1 } else { request.len() }, b'x');
            if !long {
                request.extend_from_slice(b"\r\n\r\n");
            }
            prop_assert!(decide(&request).is_some());
        }
    }
}
