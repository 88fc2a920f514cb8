//! What shows a person how far a kind is; nothing where nobody looks.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error while that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// Of so many steps.
    pub fn of(title: &str, steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:20}] {pos}/{len} {msg} ({elapsed}, {eta} left)")
        {
            bar.set_style(style);
        }
        bar.set_prefix(title.to_owned());
        Self(bar)
    }

    /// Says what is done now.
    pub fn begins(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// One step is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
