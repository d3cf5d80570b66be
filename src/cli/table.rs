//! Tables for people: columns that fit the screen, and colours where the screen has some.
//!
//! What is not a screen (a file, a pipe) gets everything, in full and without colours.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use crate::telemetry::colors_wanted;

/// The narrowest screen that tables are fitted to; a narrower one wraps lines.
const NARROWEST: usize = 40;

/// The narrowest column that is cut.
const LEAST: usize = 12;

/// Between two columns.
const GAP: usize = 2;

/// What shows a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    /// Columns of characters; none where lines may have any length.
    width: Option<usize>,
    colours: bool,
}

impl Screen {
    /// Of any width, without colours.
    pub(super) const PLAIN: Self = Self { width: None, colours: false };

    /// Of any width, with colours.
    #[cfg(test)]
    pub(super) const COLOURED: Self = Self { width: None, colours: true };

    /// Of a width, without colours.
    #[cfg(test)]
    pub(super) const fn of_width(width: usize) -> Self {
        Self { width: Some(width), colours: false }
    }

    /// Where standard output goes.
    pub(super) fn of_output() -> Self {
        Self::of(io::stdout())
    }

    /// Where standard error goes.
    pub(super) fn of_errors() -> Self {
        Self::of(io::stderr())
    }

    /// Lines of the terminal that standard error goes to; none where it is not one, or does not tell.
    pub(super) fn lines_of_errors() -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
        Some(usize::from(size.ws_row)).filter(|lines| *lines > 0)
    }

    /// The same of standard output.
    pub(super) fn lines_of_output() -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(usize::from(size.ws_row)).filter(|lines| *lines > 0)
    }

    fn of(out: impl IsTerminal + AsFd) -> Self {
        if !out.is_terminal() {
            return Self::PLAIN;
        }
        let width = rustix::termios::tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col));
        Self { width: width.filter(|width| *width >= NARROWEST), colours: colors_wanted() }
    }

    /// Characters that a line has; none where it may have any number.
    pub(super) const fn width(self) -> Option<usize> {
        self.width
    }

    /// A text in a colour.
    pub(super) fn paint(self, text: &str, colour: Colour) -> String {
        let code = match colour {
            _ if !self.colours || text.is_empty() => return text.to_owned(),
            Colour::Plain => return text.to_owned(),
            Colour::Good => 32,
            Colour::Bad => 31,
            Colour::Open => 33,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    /// As it should be.
    Good,
    /// Wrong.
    Bad,
    /// Not over, or ended by a person.
    Open,
}

/// A text in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) colour: Colour,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>, colour: Colour) -> Self {
        Self { text: text.into(), colour }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Colour::Plain)
    }
}

/// What becomes of a column on a narrow screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Narrow {
    Keep,
    /// Left out; the first of them first.
    Drop,
    /// Its texts are cut at their ends; the last of them first.
    Cut,
}

/// A table to be filled.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    columns: [(&'static str, Narrow); N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) const fn new(columns: [(&'static str, Narrow); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(super) fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, no blanks at the end of lines.
    pub(super) fn text(&self, screen: Screen) -> String {
        let heads = self.columns.map(|(head, _)| Cell::from(head));
        let rows: Vec<&[Cell; N]> = std::iter::once(&heads).chain(&self.rows).collect();
        let widest =
            |column: usize| rows.iter().map(|row| width(&row[column].text)).max().unwrap_or_default();
        let widths = self.fit(std::array::from_fn(widest), screen);
        let mut text = String::new();
        for row in rows {
            let shown: Vec<(usize, &Cell)> =
                widths.iter().copied().zip(row).filter_map(|(width, cell)| Some((width?, cell))).collect();
            // Not painted beyond its last letter.
            let last = shown.iter().rposition(|(_, cell)| !cell.text.is_empty()).map_or(0, |last| last + 1);
            for (place, (room, cell)) in shown[..last].iter().enumerate() {
                let cut = cut(&cell.text, *room);
                let blanks = if place + 1 == last { 0 } else { room.saturating_sub(width(&cut)) + GAP };
                text.push_str(&screen.paint(&cut, cell.colour));
                text.extend(std::iter::repeat_n(' ', blanks));
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }

    /// The widths of the columns on a screen; none for one that is left out.
    fn fit(&self, widest: [usize; N], screen: Screen) -> [Option<usize>; N] {
        let mut widths = widest.map(Some);
        let Some(room) = screen.width else { return widths };
        for column in 0..N {
            if taken(&widths) > room && self.columns[column].1 == Narrow::Drop {
                widths[column] = None;
            }
        }
        for column in (0..N).rev().filter(|column| self.columns[*column].1 == Narrow::Cut) {
            let excess = taken(&widths).saturating_sub(room);
            if let Some(width) = &mut widths[column] {
                *width = (*width).min(width.saturating_sub(excess).max(LEAST));
            }
        }
        widths
    }
}

/// A line of texts, cut where the screen ends, without blanks at its end.
pub(super) fn line(cells: &[Cell], screen: Screen) -> String {
    let mut left = screen.width.unwrap_or(usize::MAX);
    let last = cells.iter().rposition(|cell| !cell.text.trim_end().is_empty()).unwrap_or_default();
    let mut text = String::new();
    for (place, cell) in cells[..=last].iter().enumerate() {
        let whole = if place == last { cell.text.trim_end() } else { &cell.text };
        let shown = cut(whole, left);
        left = left.saturating_sub(width(&shown));
        text.push_str(&screen.paint(&shown, cell.colour));
        if shown.len() < whole.len() {
            break;
        }
    }
    text + "\n"
}

fn taken(widths: &[Option<usize>]) -> usize {
    let (sum, count) =
        widths.iter().flatten().fold((0, 0usize), |(sum, count), width| (sum + width, count + 1));
    sum + GAP * count.saturating_sub(1)
}

/// The beginning of a text that fits.
pub(super) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let mut shown = String::new();
    for c in text.chars() {
        let Some(rest) = left.checked_sub(cells(c)) else { break };
        left = rest;
        shown.push(c);
    }
    shown.push('…');
    shown
}

/// How many columns of a screen a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(cells).sum()
}

/// How many columns of a screen a character takes: ideographs and emoji two. Good enough to align a table.
const fn cells(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff01}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table =
            Table::new([("NAME", Narrow::Keep), ("WHEN", Narrow::Drop), ("MESSAGE", Narrow::Cut)]);
        table.push(["web1".into(), "2024-07-12 10:00:00Z".into(), Cell::new("x".repeat(50), Colour::Bad)]);
        table.push(["日本".into(), "".into(), "".into()]);
        table
    }

    #[test]
    fn a_file_gets_everything() {
        let x = "x".repeat(50);
        let whole = format!("NAME  WHEN                  MESSAGE\nweb1  2024-07-12 10:00:00Z  {x}\n日本\n");
        assert_eq!(table().text(Screen::PLAIN), whole);
        assert_eq!(table().text(Screen::of_width(78)), whole, "it fits exactly");
    }

    #[test]
    fn a_narrow_screen_gets_what_fits() {
        assert_eq!(
            table().text(Screen::of_width(60)),
            format!("NAME  MESSAGE\nweb1  {}\n日本\n", "x".repeat(50))
        );
        assert_eq!(
            table().text(Screen::of_width(40)),
            format!("NAME  MESSAGE\nweb1  {}…\n日本\n", "x".repeat(33))
        );
        assert!(table().text(Screen::of_width(40)).lines().all(|line| width(line) <= 40));
        assert_eq!(cut("日本語", 4), "日…");
    }

    #[test]
    fn the_last_column_is_cut_first_and_the_others_when_that_is_not_enough() {
        let mut table = Table::new([("NAME", Narrow::Keep), ("TYPES", Narrow::Cut), ("LABELS", Narrow::Cut)]);
        table.push(["web1".into(), "t".repeat(30).into(), "l".repeat(30).into()]);
        let row = |width| table.text(Screen::of_width(width)).lines().nth(1).unwrap_or_default().to_owned();
        assert_eq!(row(60), format!("web1  {}  {}…", "t".repeat(30), "l".repeat(21)));
        assert_eq!(row(45), format!("web1  {}…  {}…", "t".repeat(24), "l".repeat(11)));
    }

    #[test]
    fn colours_are_for_screens_that_have_some() {
        let screen = Screen::COLOURED;
        assert!(table().text(screen).contains(&format!("\x1b[31m{}\x1b[0m\n", "x".repeat(50))));
        assert_eq!(screen.paint("", Colour::Good), "");
        assert_eq!(Screen::PLAIN.paint("a", Colour::Good), "a");
    }
}
