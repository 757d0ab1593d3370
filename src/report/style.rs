// SPDX-License-Identifier: MPL-2.0

//! The width and the colours of a text.

/// The width of a text if the reader is unknown.
const PLAIN_WIDTH: u16 = 100;
/// The minimum width; narrower terminals wrap by themselves.
const NARROWEST: u16 = 40;

/// The layout of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// The maximum width of a line; less than 40 counts as 40.
    pub width: u16,
    /// Whether colours are used.
    pub is_coloured: bool,
}

/// The meaning of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It is as it should be.
    Good,
    /// It is in progress.
    Busy,
    /// A person should think about it.
    Doubtful,
    /// It is wrong.
    Bad,
    /// It is less important.
    Quiet,
}

impl Style {
    /// The style for an unknown reader: 100 columns without colours.
    pub fn plain() -> Self {
        Self { width: PLAIN_WIDTH, is_coloured: false }
    }

    /// The width that lines are made to fit.
    pub(super) fn columns(&self) -> u16 {
        self.width.max(NARROWEST)
    }

    /// The text in the colour of its mood.
    pub fn paint(&self, mood: Mood, text: &str) -> String {
        if !self.is_coloured {
            return text.to_owned();
        }
        let style = console::Style::new().force_styling(true);
        let style = match mood {
            Mood::Good => style.green(),
            Mood::Busy => style.cyan(),
            Mood::Doubtful => style.yellow(),
            Mood::Bad => style.red().bold(),
            Mood::Quiet => style.dim(),
        };
        style.apply_to(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_used_where_they_may_be() {
        let style = Style { width: 10, is_coloured: true };
        assert_eq!(style.paint(Mood::Bad, "error"), "\u{1b}[31m\u{1b}[1merror\u{1b}[0m");
        assert_eq!(style.columns(), 40);
        assert_eq!(Style::plain().paint(Mood::Bad, "error"), "error");
    }
}
