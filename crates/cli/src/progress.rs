//! What is shown while something goes on: on a terminal only, on standard error, and gone when it is over.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{context::Context, output::format};

pub struct Progress {
    bars: MultiProgress,
    shown: bool,
}

impl Progress {
    pub fn new(context: &Context) -> Self {
        let shown = !context.quiet() && io::stderr().is_terminal();
        let bars = MultiProgress::with_draw_target(if shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        Self { bars, shown }
    }

    /// Whether somebody sees it.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// So many bytes of something.
    pub fn bytes(&self, what: String, total: u64) -> ProgressBar {
        let style = ProgressStyle::with_template(
            "  {msg}  {bar:24}  {binary_bytes} / {binary_total_bytes}  {binary_bytes_per_sec}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ");
        self.bars.add(ProgressBar::new(total)).with_style(style).with_message(format::clean(&what))
    }

    /// Something whose length nobody knows. Its text may have several lines.
    pub fn status(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]);
        let bar = self.bars.add(ProgressBar::new_spinner()).with_style(style);
        if self.shown {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        bar
    }

    /// Prints while the bars stand aside.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = self.bars.clear();
    }
}
