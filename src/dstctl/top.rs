//! Current I/O on a full screen of at least 80 columns. No colour is needed.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row as TableRow, Table};
use ratatui::{DefaultTerminal, Frame};

use crate::cli::TopArguments;
use crate::failure::Failure;
use crate::finding::Severity;
use crate::health::findings;
use crate::rates::{Kind, Row, Sample, Sort, filtered, rows};
use crate::rpc::{Calls, Socket};
use crate::snapshot;
use crate::table::duration;

/// The longest time until a pressed key is noticed.
const KEY_WAIT: Duration = Duration::from_millis(50);

/// The maximum number of findings that are shown above the tables.
const FINDINGS_MAX: usize = 4;

/// The outcome of asking the application once.
type Look = Result<Sample, String>;

/// Shows the current I/O until the user quits.
///
/// # Errors
/// Fails if there is no terminal.
pub fn top(socket: Socket, args: &TopArguments) -> Result<(), Failure> {
    let (sender, looks) = mpsc::channel();
    let interval = Duration::from_millis(args.interval.get().into());
    // The application is asked on a thread of its own, so that keys work while it does not answer.
    // The thread ends with the process.
    thread::spawn(move || look(socket, &sender, interval));
    let mut terminal = ratatui::try_init().map_err(Failure::Output)?;
    let result = run(&mut terminal, &looks);
    ratatui::restore();
    result
}

fn look(mut socket: Socket, sender: &Sender<Look>, interval: Duration) {
    let start = Instant::now();
    loop {
        let look = sample(&mut socket, start).map_err(|failure| failure.to_string());
        if sender.send(look).is_err() {
            return;
        }
        thread::sleep(interval);
    }
}

fn sample(rpc: &mut impl Calls, start: Instant) -> Result<Sample, Failure> {
    let snapshot = snapshot::take(rpc)?;
    let iostat = snapshot::iostat(rpc)?;
    Ok(Sample { time: start.elapsed(), snapshot, iostat })
}

fn run(terminal: &mut DefaultTerminal, looks: &Receiver<Look>) -> Result<(), Failure> {
    let mut screen = Screen::new(Instant::now());
    loop {
        match looks.recv_timeout(KEY_WAIT) {
            Ok(look) => screen.looked(look, Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("the thread that looks goes on"),
        }
        while event::poll(Duration::ZERO).map_err(Failure::Output)? {
            if let Event::Key(key) = event::read().map_err(Failure::Output)?
                && key.kind == KeyEventKind::Press
                && screen.pressed(key) == Next::Quit
            {
                return Ok(());
            }
        }
        terminal.draw(|frame| screen.draw(frame, Instant::now())).map_err(Failure::Output)?;
    }
}

/// The effect of a key on the loop.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Quit,
}

/// The meaning of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Commands,
    /// Keys are letters of the filter.
    Filter,
}

/// The state of the screen.
#[derive(Debug)]
struct Screen {
    mode: Mode,
    sort: Sort,
    filter: String,
    is_paused: bool,
    /// The last two samples.
    samples: Option<(Sample, Sample)>,
    /// The time at which the application last answered, and the reason why it has not since.
    answered: Instant,
    away: Option<String>,
}

impl Screen {
    fn new(now: Instant) -> Screen {
        Screen {
            mode: Mode::Commands,
            sort: Sort::Iops,
            filter: String::new(),
            is_paused: false,
            samples: None,
            answered: now,
            away: None,
        }
    }

    fn looked(&mut self, look: Look, now: Instant) {
        match look {
            Ok(sample) => {
                (self.answered, self.away) = (now, None);
                if !self.is_paused {
                    let before = self.samples.take().map_or_else(|| sample.clone(), |(_, last)| last);
                    self.samples = Some((before, sample));
                }
            }
            Err(why) => self.away = Some(why),
        }
    }

    fn pressed(&mut self, key: KeyEvent) -> Next {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Next::Quit;
        }
        match (self.mode, key.code) {
            (Mode::Filter, KeyCode::Enter) => self.mode = Mode::Commands,
            (Mode::Filter, KeyCode::Esc) => {
                self.filter.clear();
                self.mode = Mode::Commands;
            }
            (Mode::Filter, KeyCode::Backspace) => {
                self.filter.pop();
            }
            (Mode::Filter, KeyCode::Char(letter)) => self.filter.push(letter),
            (Mode::Commands, KeyCode::Char('q')) => return Next::Quit,
            (Mode::Commands, KeyCode::Char('/')) => {
                self.filter.clear();
                self.mode = Mode::Filter;
            }
            (Mode::Commands, KeyCode::Char('p')) => self.is_paused = !self.is_paused,
            (Mode::Commands, KeyCode::Char(letter)) => {
                if let Some(sort) = sort_of(letter) {
                    self.sort = sort;
                }
            }
            _ => {}
        }
        Next::Continue
    }

    fn draw(&self, frame: &mut Frame<'_>, now: Instant) {
        let rows =
            self.samples.as_ref().map(|(before, last)| rows(before, last, self.sort)).unwrap_or_default();
        let head = self.head(now);
        let bdevs: Vec<_> = filtered(&rows, Kind::Bdev, &self.filter).map(table_row).collect();
        let mirrors: Vec<_> = filtered(&rows, Kind::Mirror, &self.filter).map(table_row).collect();
        let exports: Vec<_> = filtered(&rows, Kind::Export, &self.filter).map(table_row).collect();
        let height = |rows: &[TableRow<'_>]| match rows.len() {
            0 => 0,
            // The table has a title line above and an empty line below.
            len => u16::try_from(len).unwrap_or(u16::MAX).saturating_add(2),
        };
        let [top, upper, middle, lower, bottom] = Layout::vertical([
            Constraint::Length(u16::try_from(head.len()).unwrap_or(u16::MAX).saturating_add(1)),
            Constraint::Max(height(&bdevs)),
            Constraint::Max(height(&mirrors)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(head), top);
        if !bdevs.is_empty() {
            frame.render_widget(table("BDEV", "CONN", bdevs), upper);
        }
        if !mirrors.is_empty() {
            frame.render_widget(table("MIRROR", "SYNC", mirrors), middle);
        }
        if !exports.is_empty() {
            frame.render_widget(table("EXPORT", "CONN", exports), lower);
        }
        let keys = match self.mode {
            Mode::Commands => {
                "sort: n name i IOPS r read w write l latency d depth; / filter, p pause, q quit".to_owned()
            }
            Mode::Filter => format!("filter: {}_   Enter keeps it, Esc drops it", self.filter),
        };
        frame.render_widget(Line::raw(keys), bottom);
    }

    /// Returns the lines above the tables, which show the problems.
    fn head(&self, now: Instant) -> Vec<Line<'static>> {
        let bold = |text: String| Line::styled(text, Style::new().add_modifier(Modifier::BOLD));
        if let Some(why) = &self.away {
            let since = now.saturating_duration_since(self.answered).as_millis();
            let since = duration(u64::try_from(since).unwrap_or(u64::MAX));
            return vec![bold(format!("no answer for {since}: {why}"))];
        }
        let Some((_, last)) = &self.samples else { return vec![Line::raw("waiting for the first answer")] };
        let found = findings(&last.snapshot);
        let mut lines: Vec<_> = found
            .iter()
            .take(FINDINGS_MAX)
            .map(|finding| {
                let severity = match finding.severity {
                    Severity::Warning => "WARNING",
                    Severity::Critical => "CRITICAL",
                };
                bold(format!("{severity}: {} {}", finding.subject, finding.problem))
            })
            .collect();
        if found.len() > FINDINGS_MAX {
            lines.push(Line::raw(format!("and {} more: see dstctl status", found.len() - FINDINGS_MAX)));
        }
        if lines.is_empty() {
            lines.push(Line::raw("OK"));
        }
        if self.is_paused {
            lines.push(bold("paused: p continues".to_owned()));
        }
        lines
    }
}

fn sort_of(letter: char) -> Option<Sort> {
    Some(match letter {
        'n' => Sort::Name,
        'i' => Sort::Iops,
        'r' => Sort::Read,
        'w' => Sort::Written,
        'l' => Sort::Latency,
        'd' => Sort::Depth,
        _ => return None,
    })
}

fn table<'a>(title: &'a str, parts: &'a str, rows: Vec<TableRow<'a>>) -> Table<'a> {
    let titles = [title, "STATE", "IOPS", "R MiB/s", "W MiB/s", "P50", "P99", "DEPTH", parts];
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(4),
    ];
    let header = TableRow::new(titles).style(Style::new().add_modifier(Modifier::REVERSED));
    Table::new(rows, widths).header(header)
}

fn table_row(row: &Row) -> TableRow<'static> {
    let mib = |bytes: f64| format!("{:.1}", bytes / f64::from(1 << 20));
    TableRow::new([
        row.name.clone(),
        row.state.clone(),
        format!("{:.0}", row.iops),
        mib(row.read),
        mib(row.written),
        row.p50_us.map_or("-".to_owned(), latency),
        row.p99_us.map_or("-".to_owned(), latency),
        row.depth.to_string(),
        row.parts.clone(),
    ])
}

/// Returns the upper bound of a latency in at most seven characters: `<512us`, `<131ms`, `<34s`.
fn latency(below_us: u64) -> String {
    match below_us {
        0..10_000 => format!("<{below_us}us"),
        10_000..10_000_000 => format!("<{}ms", below_us / 1000),
        _ => format!("<{}s", below_us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::rates::tests::sample;
    use crate::snapshot::IoStat;
    use crate::snapshot::tests::recorded_mirror;

    fn shown(screen: &Screen, width: u16, height: u16, now: Instant) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame, now)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(width.into());
        lines
            .map(|line| {
                line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n"
            })
            .collect()
    }

    fn press(screen: &mut Screen, letters: &str) {
        for letter in letters.chars() {
            let code = match letter {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                letter => KeyCode::Char(letter),
            };
            assert_eq!(screen.pressed(code.into()), Next::Continue);
        }
    }

    #[test]
    fn eighty_columns_hold_everything() {
        let start = Instant::now();
        let mut screen = Screen::new(start);
        assert!(shown(&screen, 80, 24, start).starts_with("waiting for the first answer\n"));
        screen.looked(Ok(sample(10, 100, "connected")), start);
        screen.looked(Ok(sample(12, 300, "reconnecting")), start);
        assert_eq!(
            shown(&screen, 80, 11, start),
            "\
CRITICAL: bdev b has lacked a connection for 7 s, 7 I/O wait: refused
CRITICAL: export idle is offline: gone
CRITICAL: target has exports and no listener
WARNING: export v can't be attached by anybody

BDEV          STATE        IOPS     R MiB/s  W MiB/s  P50     P99     DEPTH CONN
b             reconnecting 1000     0.0      100.0    <64us   <128us  7     4

EXPORT        STATE        IOPS     R MiB/s  W MiB/s  P50     P99     DEPTH CONN
v             online       200      0.4      0.0      -       -       3     2
sort: n name i IOPS r read w write l latency d depth; / filter, p pause, q quit
"
        );
        // The application does not answer, and screens are too small for anything.
        screen.looked(Err("refused".to_owned()), start);
        let later = start + Duration::from_secs(61);
        assert!(shown(&screen, 80, 24, later).starts_with("no answer for 1 min 1 s: refused\n"));
        for (width, height) in [(1, 1), (10, 3), (300, 2)] {
            shown(&screen, width, height, start);
        }
    }

    #[test]
    fn mirrors_are_between_bdevs_and_exports() {
        let start = Instant::now();
        let of = |seconds, writes: u64| {
            let mut sample = sample(seconds, 100, "connected");
            let mut mirror = recorded_mirror();
            mirror["counters"]["writes"] = writes.into();
            sample.snapshot.mirrors = vec![serde_json::from_value(mirror).unwrap()];
            let bytes_written = writes << 20;
            sample.iostat.push(IoStat { name: "Mirror0".to_owned(), bytes_read: 0, bytes_written });
            sample
        };
        let mut screen = Screen::new(start);
        screen.looked(Ok(of(10, 100)), start);
        screen.looked(Ok(of(12, 300)), start);
        let text = shown(&screen, 80, 24, start);
        let tables = "\
BDEV          STATE        IOPS     R MiB/s  W MiB/s  P50     P99     DEPTH CONN
b             connected    0        0.0      0.0      -       -       7     4

MIRROR        STATE        IOPS     R MiB/s  W MiB/s  P50     P99     DEPTH SYNC
Mirror0       degraded     100      0.0      100.0    -       -       5     1/2

EXPORT        STATE        IOPS     R MiB/s  W MiB/s  P50     P99     DEPTH CONN
";
        assert!(text.contains(tables), "{text}");
        press(&mut screen, "/b\n");
        let text = shown(&screen, 80, 24, start);
        assert!(text.contains("BDEV ") && !text.contains("MIRROR "), "{text}");
    }

    #[test]
    fn keys_sort_filter_pause_and_quit() {
        let start = Instant::now();
        let mut screen = Screen::new(start);
        screen.looked(Ok(sample(10, 100, "connected")), start);
        screen.looked(Ok(sample(12, 300, "connected")), start);
        press(&mut screen, "/idq\n");
        assert_eq!((&screen.filter[..], screen.mode), ("idq", Mode::Commands));
        press(&mut screen, "/id");
        let text = shown(&screen, 80, 24, start);
        assert!(text.contains("\nidle ") && !text.contains("\nv ") && text.contains("filter: id_"), "{text}");
        press(&mut screen, "\x1bl");
        assert_eq!((&screen.filter[..], screen.sort), ("", Sort::Latency));
        press(&mut screen, "p");
        screen.looked(Ok(sample(13, 300, "failed")), start);
        let text = shown(&screen, 80, 24, start);
        assert!(text.contains("connected") && !text.contains("failed") && text.contains("paused"), "{text}");
        press(&mut screen, "pX");
        screen.looked(Ok(sample(13, 300, "failed")), start);
        assert!(shown(&screen, 80, 24, start).contains("failed"));
        assert_eq!(screen.pressed(KeyCode::Char('q').into()), Next::Quit);
        press(&mut screen, "/");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.pressed(interrupt), Next::Quit);
    }

    #[test]
    fn latencies_fit_their_columns() {
        let bounds = (0..32).map(|bit| latency(1 << bit));
        assert!(bounds.into_iter().all(|text| text.len() <= 7));
        assert_eq!([512, 1 << 17, 1 << 25].map(latency), ["<512us", "<131ms", "<33s"]);
    }
}
