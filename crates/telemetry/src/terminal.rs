//! Standard error, shared by the progress bar, the lines of the console sink and the log.
//!
//! Owns the rule that only one of them draws at a time: text first takes the bar away, then puts it back. Decides
//! whether there is a terminal and whether it gets colours; never decides what is shown.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use indicatif::ProgressBar;

/// A handle on standard error; clones share the stream and the bar.
#[derive(Clone)]
pub struct Terminal {
    shared: Arc<Shared>,
}

struct Shared {
    interactive: bool,
    color: bool,
    stream: Mutex<Box<dyn Write + Send>>,
    bar: Mutex<Option<ProgressBar>>,
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
        let (stream, bar) = (Mutex::new(stream), Mutex::new(None));
        Self { shared: Arc::new(Shared { interactive, color, stream, bar }) }
    }

    /// Whether a progress bar makes sense here.
    pub fn is_interactive(&self) -> bool {
        self.shared.interactive
    }

    /// Whether to use colours, in the log as well.
    pub fn has_color(&self) -> bool {
        self.shared.color
    }

    /// Makes `bar`, which draws on standard error, the one that text steps around, instead of any bar before it.
    pub fn attach(&self, bar: &ProgressBar) {
        *lock(&self.shared.bar) = Some(bar.clone());
    }

    /// Forgets the bar.
    pub fn detach(&self) {
        *lock(&self.shared.bar) = None;
    }

    /// Writes `line` and a line break.
    pub fn print_line(&self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// A `MakeWriter` for `tracing-subscriber`: its lines step around the bar, whether there is one by then or not.
    pub fn log_writer(&self) -> impl Fn() -> LogWriter + Clone + Send + Sync + 'static {
        let terminal = self.clone();
        move || LogWriter { terminal: terminal.clone() }
    }

    /// Writes `text` in one piece. A standard error that is gone (a closed terminal, a broken pipe) ends no run and
    /// there is nowhere left to report it.
    fn write(&self, text: &[u8]) {
        let write = || {
            let mut stream = lock(&self.shared.stream);
            let _ = stream.write_all(text).and_then(|()| stream.flush());
        };
        // The bar is cloned out of its lock: drawing it can take time, and attaching another one must not wait.
        let bar = lock(&self.shared.bar).clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Writes log lines to a [`Terminal`]; made by [`Terminal::log_writer`].
pub struct LogWriter {
    terminal: Terminal,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.terminal.write(bytes);
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
        let text = stream.text().split_off(before);
        let (cleared, redrawn) = text.split_once("a log line\n").unwrap();
        assert!(cleared.contains("<clear>"), "the bar was still there: {cleared:?}");
        assert!(redrawn.contains("0/10"), "the bar did not come back: {redrawn:?}");

        terminal.detach();
        let before = stream.text().len();
        make_writer().write_all(b"alone\n").unwrap();
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
    }
}
