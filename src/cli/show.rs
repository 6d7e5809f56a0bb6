//! How results look: JSON for programs, aligned text for people. Everything that came from outside is escaped, so that no
//! name or content can move the cursor, hide text or turn its direction around.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;

use crate::ledger::types::{MicroAtp, Ppm};

/// Characters of an id that are shown where there is no room for the whole.
const SHORT_CHARS: usize = 8;

/// For whom results are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// People.
    Text,
    /// Programs: one object, or one object a line.
    Json,
}

/// Where results go, and in which form.
#[derive(Debug)]
pub struct Show<W> {
    out: W,
    form: Form,
}

impl<W: Write> Show<W> {
    /// Results go to `out`.
    pub const fn new(out: W, form: Form) -> Self {
        Self { out, form }
    }

    /// For whom results are.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// Shows a text that is for people only.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Shows one thing: as one JSON object, or as the text that `text` makes of it.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn one<T: Serialize>(&mut self, value: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        let shown = match self.form {
            Form::Text => text(value),
            Form::Json => json_line(value)?,
        };
        self.out.write_all(shown.as_bytes())?;
        self.out.flush()
    }

    /// Shows a list: as one JSON object a line, or as the text that `text` makes of the whole.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn list<T: Serialize>(&mut self, values: &[T], text: impl FnOnce(&[T]) -> String) -> io::Result<()> {
        match self.form {
            Form::Text => self.out.write_all(text(values).as_bytes())?,
            Form::Json => {
                for value in values {
                    self.out.write_all(json_line(value)?.as_bytes())?;
                }
            }
        }
        self.out.flush()
    }
}

/// One line of JSON. Characters that a terminal would act on, and that JSON allows as they are, are written `\uXXXX`: the
/// value stays the same. They can only stand in strings.
pub(super) fn json_line(value: &impl Serialize) -> io::Result<String> {
    let json = serde_json::to_string(value)?;
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string can't fail.
                let _infallible = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    Ok(line)
}

/// Whether a terminal would act on a character instead of showing it: controls, invisible ones, and those that turn the
/// direction of text around.
const fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Foreign text on one line, with everything written out that a terminal would act on.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            c if is_unsafe(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
        shown
    })
}

/// Foreign text with its line breaks, everything else written out as [`escaped`] does.
#[must_use]
pub fn escaped_lines(text: &str) -> String {
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

/// The start of an id, with which people tell nodes apart.
#[must_use]
pub fn short(id: &str) -> String {
    escaped(&id.chars().take(SHORT_CHARS).collect::<String>())
}

/// An amount with its unit: `101.423600 ATP`.
#[must_use]
pub fn atp(uatp: i64) -> String {
    format!("{} ATP", MicroAtp(uatp))
}

/// A change of an amount, with its sign: `+1.423600 ATP`.
#[must_use]
pub fn atp_change(uatp: i64) -> String {
    let plus = if uatp > 0 { "+" } else { "" };
    format!("{plus}{}", atp(uatp))
}

/// A ratio to three places: `0.712`. Cut, not rounded, so that nothing below a threshold looks as if it were at it.
#[must_use]
pub fn ratio(ppm: u32) -> String {
    let shown = Ppm(ppm / 1_000 * 1_000).to_string();
    shown.get(..shown.len().saturating_sub(3)).unwrap_or(&shown).to_owned()
}

/// A number of millionths to two places: `12.50`.
#[must_use]
pub fn millionths(ppm: u64) -> String {
    format!("{}.{:02}", ppm / 1_000_000, ppm % 1_000_000 / 10_000)
}

/// A duration in the largest unit that fits: `45 s`, `12 min`, `3 h`, `5 d`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How many of something: `1 entry`, `2 entries`.
#[must_use]
pub fn count(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// A number of bytes: `812 B`, `4.2 kB`, `1.3 MB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// A round-trip time: `412 µs`, `3.2 ms`.
#[must_use]
pub fn rtt(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        _ => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
    }
}

/// Hardware as far as it is known: what was not attested is a claim, and is shown as one.
#[must_use]
pub fn hardware(name: &str, method: Option<&str>) -> String {
    let attested = method == Some("attested");
    let claimed = if attested { "" } else { ", claimed" };
    format!("{}{claimed}", escaped(name))
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a heading; the columns are as wide as their widest cell.
#[must_use]
pub fn table<const N: usize>(headings: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|(heading, _)| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let aligns = headings.map(|(_, align)| align);
    let mut text = line(&headings.map(|(heading, _)| heading.to_owned()), &widths, &aligns);
    for row in rows {
        text.push_str(&line(row, &widths, &aligns));
    }
    text
}

fn line(cells: &[String], widths: &[usize], aligns: &[Align]) -> String {
    let padded = cells.iter().zip(widths).zip(aligns).map(|((cell, width), align)| match align {
        Align::Left => format!("{cell:<width$}"),
        Align::Right => format!("{cell:>width$}"),
    });
    let line = padded.collect::<Vec<_>>().join("  ");
    format!("{}\n", line.trim_end())
}

/// Named values one below the other, aligned.
#[must_use]
pub fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    fields.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string can't fail.
        let _infallible = writeln!(text, "{name:<width$}  {value}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [char; 11] = [
        '\0',
        '\u{1b}',
        '\r',
        '\x7f',
        '\u{9b}',
        '\u{200b}',
        '\u{200f}',
        '\u{202e}',
        '\u{2067}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown_raw() {
        for c in HOSTILE {
            let text = format!("a{c}b");
            assert_eq!(escaped(&text), format!("a\\u{{{:x}}}b", u32::from(c)));
            let json = json_line(&text).unwrap();
            assert!(!json.trim_end_matches('\n').contains(c), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text, "the value is the same");
        }
        assert_eq!(escaped("意識 — ça va?"), "意識 — ça va?");
    }

    #[test]
    fn lines_of_a_content_stay_lines() {
        assert_eq!(escaped_lines("one\n\ttwo\u{1b}"), "one\n\\ttwo\\u{1b}");
        assert_eq!(escaped("one\ntwo"), "one\\ntwo");
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!((ratio(299_999), ratio(1_000_000)), ("0.299".to_owned(), "1.000".to_owned()));
        assert_eq!(
            (atp_change(1_500_000), atp_change(-5_000_000)),
            ("+1.500000 ATP".to_owned(), "-5.000000 ATP".to_owned())
        );
        assert_eq!(
            (duration(119), duration(7_199), duration(200_000)),
            ("119 s".into(), "119 min".into(), "2 d".into())
        );
        assert_eq!((rtt(412), rtt(3_240)), ("412 µs".to_owned(), "3.2 ms".to_owned()));
        assert_eq!(
            (bytes(999), bytes(4_210), bytes(1_300_000)),
            ("999 B".into(), "4.2 kB".into(), "1.3 MB".into())
        );
        assert_eq!(
            (count(1, "entry", "entries"), count(0, "entry", "entries")),
            ("1 entry".into(), "0 entries".into())
        );
        assert_eq!(hardware("tpm2", Some("software_bridge")), "tpm2, claimed");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["legion".to_owned(), "1".to_owned()], ["é".to_owned(), "100".to_owned()]];
        let text = table([("name", Align::Left), ("seq", Align::Right)], &rows);
        assert_eq!(text, "name    seq\nlegion    1\né       100\n");
    }
}
