//! `dstctl exporter`: the counts of applications for Prometheus.
//!
//! | file | contents |
//! | --- | --- |
//! | `http` | a small HTTP server with limits |
//! | `watched` | an application that is asked at each scrape, and may be restarted meanwhile |
//! | `answer` | the answer of `dst_get_metrics` |
//! | `families` | the metrics, and the columns of the answer that they come from |
//! | `exposition` | Prometheus's text format |

mod answer;
mod exposition;
mod families;
mod http;
mod watched;

use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

use crate::cli::ExporterArguments;
use crate::failure::Failure;
use crate::outcome::print;
use watched::Watched;

/// Serves the metrics of the applications at these sockets until the process is ended. An
/// application need not run: whether it does is a metric.
///
/// # Errors
/// Fails if nobody can connect to the address.
pub fn exporter(sockets: Vec<PathBuf>, args: &ExporterArguments) -> Result<(), Failure> {
    let at = &args.listen;
    let failure = |error| Failure::Listen(format!("{}:{}", at.address, at.port), error);
    let listener = TcpListener::bind((at.address.as_str(), at.port)).map_err(failure)?;
    let address = listener.local_addr().map_err(failure)?;
    let watched: Vec<Watched> =
        sockets.into_iter().map(|socket| Watched::new(socket, args.scrape_timeout)).collect();
    print(&format!("metrics are at http://{address}/metrics\n"))?;
    http::serve(&listener, &|| scrape(&watched))
}

/// Asks all applications at once, so that one that hangs does not delay the others, and returns the
/// metrics as text.
fn scrape(watched: &[Watched]) -> String {
    let looks = thread::scope(|scope| {
        let ask = |application| {
            let in_thread = thread::Builder::new().spawn_scoped(scope, move || Watched::look(application));
            (application, in_thread)
        };
        let asked: Vec<_> = watched.iter().map(ask).collect();
        let answered = asked.into_iter().map(|(application, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| application.lost()),
            // Without a thread, this one asks.
            Err(_) => application.look(),
        });
        answered.collect::<Vec<_>>()
    });
    families::show(&looks)
}
