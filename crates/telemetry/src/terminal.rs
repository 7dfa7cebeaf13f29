//! Standard error, shared by the progress bar, the lines of the console sink and the log.
//!
//! Owns the rule that only one of them draws at a time: text first takes the bar away, then puts it back. A thread of
//! its own draws, so that nobody waits for a terminal that takes nothing (Ctrl-S, a pipe that nobody reads): what does
//! not fit into a bounded queue is left out, counted and told. Decides whether there is a terminal and whether it gets
//! colours; never decides what is shown.

use std::{
    collections::VecDeque,
    env,
    io::{self, IsTerminal, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;

/// Text that waits to be shown: more than a thousand lines, and little enough to be read when a terminal goes on.
const MAX_WAITING_BYTES: usize = 256 << 10;

/// The line that says how many are missing has so many bytes at most.
const MAX_NOTICE_BYTES: usize = 100;

/// A handle on standard error; clones share the stream and the bar.
#[derive(Clone)]
pub struct Terminal {
    queue: Arc<Queue>,
}

/// What is to be drawn, on its way to the thread that draws.
struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    interactive: bool,
    color: bool,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Piece>,
    /// Bytes of the text that waits.
    bytes: usize,
    /// Lines that found no room since the last that did.
    left_out: u64,
    /// Where the bar is to stand; of several the newest is drawn, once no text waits.
    progress: Option<Progress>,
    /// Something is being drawn.
    drawing: bool,
    /// Somebody waited in vain, and nothing was drawn since.
    stalled: bool,
    /// No handle is left.
    closed: bool,
    /// What draws, until the thread takes it; if there is no thread, it stays.
    artist: Option<Artist>,
    /// The system had no thread: each caller draws its own line.
    without_thread: bool,
}

enum Piece {
    Text(Vec<u8>),
    Attach(ProgressBar),
    Detach,
    Clear,
    Progress(Progress),
}

struct Progress {
    position: u64,
    message: String,
}

/// Draws.
struct Artist {
    stream: Box<dyn Write + Send>,
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// Standard error. It is interactive if it is a terminal that can move its cursor; it has colours if, besides,
    /// `NO_COLOR` is unset or empty.
    pub fn stderr() -> Self {
        let interactive = io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let color = interactive && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::new(interactive, color, Box::new(io::stderr()))
    }

    /// Any stream, as one that is no terminal: no bar, no colours.
    pub fn plain(stream: impl Write + Send + 'static) -> Self {
        Self::new(false, false, Box::new(stream))
    }

    fn new(interactive: bool, color: bool, stream: Box<dyn Write + Send>) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            bytes: 0,
            left_out: 0,
            progress: None,
            drawing: false,
            stalled: false,
            closed: false,
            artist: Some(Artist { stream, bar: None }),
            without_thread: false,
        };
        let shared =
            Arc::new(Shared { interactive, color, state: Mutex::new(state), changed: Condvar::new() });
        let drawn = Arc::clone(&shared);
        let thread = thread::Builder::new().name("terminal".to_owned()).spawn(move || drawn.draw());
        lock(&shared.state).without_thread = thread.is_err();
        Self { queue: Arc::new(Queue { shared }) }
    }

    /// Whether a progress bar makes sense here.
    pub fn is_interactive(&self) -> bool {
        self.queue.shared.interactive
    }

    /// Whether to use colours, in the log as well.
    pub fn has_color(&self) -> bool {
        self.queue.shared.color
    }

    /// Makes `bar`, which draws on standard error, the one that text steps around, instead of any bar before it.
    pub fn attach(&self, bar: &ProgressBar) {
        self.queue.shared.push(Piece::Attach(bar.clone()));
    }

    /// Forgets the bar.
    pub fn detach(&self) {
        self.queue.shared.push(Piece::Detach);
    }

    /// Moves the bar, if there is one.
    pub fn show_progress(&self, position: u64, message: String) {
        self.queue.shared.push(Piece::Progress(Progress { position, message }));
    }

    /// Takes the bar away for good.
    pub fn clear_progress(&self) {
        self.queue.shared.push(Piece::Clear);
    }

    /// Writes `line` and a line break.
    pub fn print_line(&self, line: &str) {
        self.write(format!("{line}\n").into_bytes());
    }

    /// A `MakeWriter` for `tracing-subscriber`: its lines step around the bar, whether there is one by then or not.
    pub fn log_writer(&self) -> impl Fn() -> LogWriter + Clone + Send + Sync + 'static {
        let terminal = self.clone();
        move || LogWriter { terminal: terminal.clone() }
    }

    /// Waits, for `limit` at most, until everything is shown; says whether it is. What was waited for in vain is not
    /// waited for again.
    pub fn flush(&self, limit: Duration) -> bool {
        let shared = &self.queue.shared;
        let end = Instant::now() + limit;
        let mut state = lock(&shared.state);
        while !state.is_idle() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stalled {
                state.stalled = true;
                return false;
            }
            let waited = shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Writes `text` in one piece. A standard error that is gone (a closed terminal, a broken pipe) ends no run and
    /// there is nowhere left to report it.
    fn write(&self, text: Vec<u8>) {
        self.queue.shared.push(Piece::Text(text));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn push(&self, piece: Piece) {
        let mut state = lock(&self.state);
        state.push(piece);
        if state.without_thread {
            while let Some(piece) = state.next()
                && let Some(artist) = &mut state.artist
            {
                artist.draw(piece);
            }
        } else {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The thread: draws until nobody is left who could have anything drawn.
    fn draw(&self) {
        let mut state = lock(&self.state);
        let Some(mut artist) = state.artist.take() else { return };
        loop {
            if let Some(piece) = state.next() {
                state.drawing = true;
                drop(state);
                artist.draw(piece);
                state = lock(&self.state);
                (state.drawing, state.stalled) = (false, false);
                self.changed.notify_all();
            } else if state.closed {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.progress.is_none() && self.left_out == 0 && !self.drawing
    }

    fn push(&mut self, piece: Piece) {
        match piece {
            Piece::Progress(progress) => self.progress = Some(progress),
            Piece::Text(text) if self.bytes + text.len() + self.notice_bytes() > MAX_WAITING_BYTES => {
                self.left_out += text.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
            Piece::Text(text) => {
                self.tell_left_out();
                self.bytes += text.len();
                self.waiting.push_back(Piece::Text(text));
            }
            // A run has a handful of them.
            piece => self.waiting.push_back(piece),
        }
    }

    /// Room for the line that says how many are missing.
    fn notice_bytes(&self) -> usize {
        if self.left_out > 0 { MAX_NOTICE_BYTES } else { 0 }
    }

    /// Says, where they would have stood, how many lines are missing.
    fn tell_left_out(&mut self) {
        let lines = std::mem::take(&mut self.left_out);
        if lines > 0 {
            let what = if lines == 1 { "line is" } else { "lines are" };
            let notice =
                format!("{lines} {what} missing here: nothing was read from this stream for too long\n");
            self.bytes += notice.len();
            self.waiting.push_back(Piece::Text(notice.into_bytes()));
        }
    }

    fn next(&mut self) -> Option<Piece> {
        if self.waiting.is_empty() {
            self.tell_left_out();
        }
        let piece = self.waiting.pop_front();
        if let Some(Piece::Text(text)) = &piece {
            self.bytes -= text.len();
        }
        piece.or_else(|| self.progress.take().map(Piece::Progress))
    }
}

impl Artist {
    fn draw(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => {
                let Self { stream, bar } = self;
                let mut write = || {
                    let _ = stream.write_all(&text).and_then(|()| stream.flush());
                };
                match bar {
                    Some(bar) => bar.suspend(write),
                    None => write(),
                }
            }
            Piece::Attach(bar) => self.bar = Some(bar),
            Piece::Detach => self.bar = None,
            Piece::Clear => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
            Piece::Progress(Progress { position, message }) => {
                if let Some(bar) = &self.bar {
                    bar.set_position(position);
                    bar.set_message(message);
                }
            }
        }
    }
}

/// Writes log lines to a [`Terminal`]; made by [`Terminal::log_writer`].
pub struct LogWriter {
    terminal: Terminal,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.terminal.write(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A panic elsewhere leaves no half-made state behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// As long as no test takes.
    pub const LONG: Duration = Duration::from_secs(60);

    /// A stream that can be read afterwards.
    #[derive(Clone, Debug, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TermLike for Captured {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
            self.write_str(&format!("<up {lines}>"))
        }

        fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
            self.write_str(&format!("<down {lines}>"))
        }

        fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
            self.write_str(&format!("<right {columns}>"))
        }

        fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
            self.write_str(&format!("<left {columns}>"))
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.clone().write_all(text.as_bytes())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.write_str("<clear>")
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_and_logs_are_written_without_a_bar() {
        let stream = Captured::default();
        let terminal = Terminal::plain(stream.clone());
        let make_writer = terminal.log_writer();
        terminal.print_line("a line");
        make_writer().write_all(b"a log line\n").unwrap();
        assert!(terminal.flush(LONG));
        assert_eq!(stream.text(), "a line\na log line\n");
        assert!(!terminal.is_interactive() && !terminal.has_color());
    }

    #[test]
    fn a_log_line_takes_the_bar_away_and_puts_it_back() {
        let stream = Captured::default();
        let terminal = Terminal::plain(stream.clone());
        let make_writer = terminal.log_writer();
        let bar =
            ProgressBar::with_draw_target(Some(10), ProgressDrawTarget::term_like(Box::new(stream.clone())));
        terminal.attach(&bar);
        bar.force_draw();
        let before = stream.text().len();
        make_writer().write_all(b"a log line\n").unwrap();
        assert!(terminal.flush(LONG));
        let text = stream.text().split_off(before);
        let (cleared, redrawn) = text.split_once("a log line\n").unwrap();
        assert!(cleared.contains("<clear>"), "the bar was still there: {cleared:?}");
        assert!(redrawn.contains("0/10"), "the bar did not come back: {redrawn:?}");

        terminal.detach();
        let before = stream.text().len();
        make_writer().write_all(b"alone\n").unwrap();
        assert!(terminal.flush(LONG));
        assert_eq!(stream.text().split_off(before), "alone\n");
    }

    #[test]
    fn a_stream_that_is_gone_is_no_error() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let terminal = Terminal::plain(Gone);
        terminal.print_line("a line");
        terminal.log_writer()().write_all(b"a log line\n").unwrap();
        assert!(terminal.flush(LONG));
    }

    /// A terminal that takes nothing until it is let go on.
    struct Stalled {
        shown: Captured,
        go_on: std::sync::mpsc::Receiver<()>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Whoever is gone lets it go on for good.
            let _ = self.go_on.recv();
            self.shown.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_terminal_that_takes_nothing_and_what_is_missing_is_counted() {
        let (release, go_on) = std::sync::mpsc::channel();
        let shown = Captured::default();
        let terminal = Terminal::plain(Stalled { shown: shown.clone(), go_on });
        let lines = 10 * MAX_WAITING_BYTES / 100;
        let long = "x".repeat(100);
        (0..lines).for_each(|line| terminal.print_line(&format!("{line} {long}")));
        terminal.show_progress(1, "some way".to_owned());
        assert!(!terminal.flush(Duration::ZERO), "nothing was taken");
        assert_eq!(shown.text(), "");
        assert!(lock(&terminal.queue.shared.state).bytes <= MAX_WAITING_BYTES);
        drop(release);
        // What was waited for in vain is waited for again once something was taken.
        let end = Instant::now() + LONG;
        while !terminal.flush(LONG) {
            assert!(Instant::now() < end, "nothing is taken");
            thread::yield_now();
        }
        terminal.print_line("after");
        assert!(terminal.flush(LONG));
        let text = shown.text();
        let (before, after) = text.split_once(" lines are missing here: ").unwrap();
        assert_eq!(after.lines().nth(1), Some("after"));
        let (before, missing) = before.rsplit_once('\n').unwrap();
        let kept = before.lines().count();
        assert_eq!(kept + missing.parse::<usize>().unwrap(), lines, "each is shown or counted");
        for (line, text) in before.lines().enumerate() {
            assert_eq!(text, format!("{line} {long}"));
        }
    }
}
