//! Single values of a plan: numbers, durations, digests. Each refusal has the place of the value, and a remedy.

use std::time::Duration;

use lockstep_command_line::Period;
use toml::{Spanned, Value};

use super::Until;

/// Place in the text, and what is wrong there.
pub(super) type Refusal = (usize, String);

/// The longest time that a plan may name: a week.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn place<T>(value: &Spanned<T>) -> usize {
    value.span().start
}

pub(super) fn between(value: &Spanned<u32>, name: &str, least: u32, most: u32) -> Result<u32, Refusal> {
    let number = *value.get_ref();
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err((place(value), format!("{name} is {number}; write a number from {least} to {most}")))
    }
}

pub(super) fn until(value: &Spanned<String>) -> Result<Until, Refusal> {
    match value.get_ref().as_str() {
        "faults" => Ok(Until::Faults),
        "done" => Ok(Until::Done),
        other => Err((
            place(value),
            format!("until is '{other}'; write \"faults\" (run again until all were injected) or \"done\""),
        )),
    }
}

pub(super) fn digest(value: &Spanned<String>) -> Result<String, Refusal> {
    let text = value.get_ref().to_ascii_lowercase();
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text)
    } else {
        Err((place(value), "digest is no SHA-256; write the 64 hex digits of `weights_digest`".to_string()))
    }
}

pub(super) fn duration_or(value: &Option<Spanned<Value>>, default: Duration) -> Result<Duration, Refusal> {
    value.as_ref().map_or(Ok(default), duration)
}

/// A number of seconds, or a text such as "500ms", "2s", "1.5m" or "1h", as all of the program reads them.
pub(super) fn duration(value: &Spanned<Value>) -> Result<Duration, Refusal> {
    let period = match value.get_ref() {
        Value::String(text) => text.parse(),
        other => other.to_string().parse(),
    };
    match period {
        Ok(Period(duration)) if duration <= LONGEST => Ok(duration),
        _ => Err((
            place(value),
            format!(
                "{} is no duration; write seconds (2.5) or a text (\"500ms\", \"2s\", \"1m\"), a week at most",
                value.get_ref()
            ),
        )),
    }
}
