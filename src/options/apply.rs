//! Reads the value of an option by the rule of its row, and applies it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::draft::{Draft, LATE};
use super::error::CliError;
use super::number;
use super::row::{Effect, Row, Rule};

/// A given value that fits its rule. Members that the rule does not name are
/// empty.
#[derive(Default)]
struct Given<'a> {
    number: i64,
    fraction: f64,
    text: &'a str,
}

impl Row {
    /// Applies the option. `written` is its name in messages; `value` is `None`
    /// for a word without one.
    ///
    /// # Errors
    ///
    /// The option is unavailable, or the value is invalid. Faults of the options
    /// in [`LATE`] are kept in the draft.
    pub(super) fn apply(
        &self,
        draft: &mut Draft,
        written: &str,
        value: Option<&OsStr>,
    ) -> Result<(), CliError> {
        if let Effect::Unavailable(missing) = self.effect {
            let option = written.to_owned();
            return Err(CliError::Unavailable { option, missing });
        }
        let given = self.read(draft, written, value)?;
        if self.ignored {
            draft.note(format!("{written} has no effect"));
        }
        let outcome = match self.effect {
            Effect::TryNumber(set) => set(draft, given.number),
            Effect::TryFraction(set) => set(draft, given.fraction),
            Effect::TryText(set) => set(draft, given.text),
            effect => {
                match effect {
                    Effect::Switch(set) => set(draft),
                    Effect::Number(set) => set(draft, given.number),
                    Effect::Fraction(set) => set(draft, given.fraction),
                    Effect::Text(set) => set(draft, given.text),
                    Effect::Path(set) => set(draft, path(value.unwrap_or_default())),
                    _ => {}
                }
                Ok(())
            }
        };
        match LATE.iter().position(|name| *name == self.name) {
            Some(place) => {
                draft.late_faults[place] = outcome.err();
                Ok(())
            }
            None => outcome,
        }
    }

    fn read<'a>(
        &self,
        draft: &mut Draft,
        written: &str,
        value: Option<&'a OsStr>,
    ) -> Result<Given<'a>, CliError> {
        let missing = || CliError::BadValue(format!("Missing {} argument", self.name));
        let text = || text(written, value.ok_or_else(missing)?);
        let mut given = Given::default();
        match self.rule {
            Rule::Nothing | Rule::Level | Rule::Path => {}
            Rule::Integer => given.number = leading(draft, written, value, number::integer)?,
            Rule::Size => given.number = leading(draft, written, value, number::size)?,
            Rule::Decimal => given.fraction = decimal(written, text()?)?,
            Rule::RangeOrNothing(..) if value.is_none() => {
                (given.number, given.fraction) = (1, 1.0)
            }
            Rule::Range(min, max) | Rule::RangeOrNothing(min, max) => {
                let text = text()?;
                let number = number::integer(text);
                given.number = number.ok_or_else(|| not_a_number(written, text))?.value;
                given.fraction = number::fraction(text).unwrap_or(given.number as f64);
                let fits = (min..=max).contains(&given.number);
                self.limit(fits, || format!("between {min} and {max}"))?;
            }
            Rule::Fraction(max) => {
                given.fraction = decimal(written, text()?)?;
                let fits = given.fraction > 0.0 && given.fraction <= max;
                self.limit(fits, || format!("above 0 and at most {max}"))?;
            }
            Rule::Choice(choices) => {
                given.text = text()?;
                let fits = choices.contains(&given.text);
                self.limit(fits, || format!("one of {}", choices.join(", ")))?;
            }
            Rule::Text => given.text = text()?,
        }
        Ok(given)
    }

    fn limit(&self, fits: bool, wanted: impl Fn() -> String) -> Result<(), CliError> {
        let wrong = || CliError::BadValue(format!("{} must be {}", self.name, wanted()));
        fits.then_some(()).ok_or_else(wrong)
    }
}

/// Returns the number at the start of a value. Text behind it causes a warning.
fn leading(
    draft: &mut Draft,
    written: &str,
    value: Option<&OsStr>,
    read: fn(&str) -> Option<number::Read<i64>>,
) -> Result<i64, CliError> {
    let text = value.unwrap_or_default().to_string_lossy();
    let read = read(&text).ok_or_else(|| not_a_number(written, &text))?;
    let number = read.value;
    if read.trailing {
        let line = format!("warning: {written}: {text:?} is read as {number}");
        draft.warn(line);
    }
    Ok(number)
}

fn decimal(written: &str, text: &str) -> Result<f64, CliError> {
    number::fraction(text).ok_or_else(|| not_a_number(written, text))
}

/// Returns the value as text with its spaces: the delimiter may be a space.
fn text<'a>(written: &str, value: &'a OsStr) -> Result<&'a str, CliError> {
    value.to_str().ok_or_else(|| CliError::NotText {
        option: written.to_owned(),
    })
}

/// Removes leading spaces: `"-s /run/x"` may arrive as one argument.
fn path(value: &OsStr) -> PathBuf {
    OsStr::from_bytes(value.as_bytes().trim_ascii_start()).into()
}

fn not_a_number(written: &str, text: &str) -> CliError {
    CliError::NotANumber {
        option: written.to_owned(),
        text: text.to_owned(),
    }
}
