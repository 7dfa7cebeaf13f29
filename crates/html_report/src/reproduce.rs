//! What it takes to have the same run again, as sections of the report: digest, command, configuration.

use std::fmt::Write;

use super::sections::{grouped, sentence};
use super::{RunData, Weights, escape};

/// The settings that decide the bits, and the number of workers, in the order of the command.
const REPRODUCED: [&str; 11] = [
    "dataset",
    "data-dir",
    "examples",
    "validation-split",
    "epochs",
    "max-steps",
    "batch-size",
    "learning-rate",
    "seed",
    "micro-shards",
    "workers",
];

/// The digest and the commands.
pub fn reproduction(run: &RunData) -> String {
    let mut text = String::new();
    match &run.weights {
        Some(Weights { step, digest, .. }) => {
            let _ = write!(
                text,
                "<p class=\"sub\">The newest weights that are kept, after step {}, have the SHA-256</p>\n<pre class=\"digest\">{}</pre>\n",
                grouped(*step),
                escape(digest)
            );
        }
        None => text.push_str(&sentence("There are no weights of this run yet, and so no digest.")),
    }
    text.push_str(&sentence(
        "This command trains the same again, to the same bits, whatever the number of workers:",
    ));
    let _ = writeln!(text, "<pre>{}</pre>", unbroken(&command(run)));
    if !run.ended.well {
        if let Some(Weights { step: step @ 1.., .. }) = &run.weights {
            text.push_str(&sentence(&format!("With --max-steps {step} it ends with the weights above.")));
        }
        text.push_str(&sentence("And this one goes on with the run, in the folder where its directory is:"));
        let _ = writeln!(text, "<pre>coordinator --resume {}</pre>", escape(&quoted(&run.name)));
    }
    text
}

/// The command that trains the same again: the program, then each flag with its value.
fn command(run: &RunData) -> Vec<String> {
    let mut parts = vec!["coordinator".to_string()];
    // What comes behind are not settings but what the run is.
    let settings = || run.configuration.iter().take_while(|(key, _)| key != "id");
    for key in REPRODUCED {
        if let Some((_, value)) = settings().find(|(known, _)| known == key) {
            parts.push(format!("--{key} {}", quoted(&plain(value))));
        }
    }
    if run.initialised {
        parts.push(format!("--init {}", quoted(&format!("{}/initial.safetensors", run.name))));
    }
    parts
}

/// The command with each flag on one line, where there is room for it.
fn unbroken(command: &[String]) -> String {
    let parts: Vec<String> = command.iter().map(|part| format!("<span>{}</span>", escape(part))).collect();
    parts.join(" ")
}

/// A value of a TOML file as a flag takes it.
fn plain(value: &str) -> String {
    let table: Option<toml::Table> = toml::from_str(&format!("value = {value}")).ok();
    let text = table.as_ref().and_then(|table| table.get("value")?.as_str());
    text.unwrap_or(value).to_string()
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,+".contains(&byte);
    if !word.is_empty() && word.bytes().all(harmless) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The file of settings.
pub fn configuration(run: &RunData) -> String {
    let mut text = String::from(
        "<details><summary>config.toml, as the run wrote it</summary>\n<table class=\"pairs\"><tbody>\n",
    );
    for (key, value) in &run.configuration {
        let _ = writeln!(text, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(key), escape(value));
    }
    text.push_str("</tbody></table></details>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_configuration_are_words_of_a_shell() {
        assert_eq!(quoted(&plain("0.01")), "0.01");
        assert_eq!(quoted(&plain("\"digits\"")), "digits");
        assert_eq!(quoted(&plain("18446744073709551615")), "18446744073709551615");
        assert_eq!(quoted(&plain("\"it's; rm\"")), "'it'\\''s; rm'");
        assert_eq!(quoted(""), "''");
    }
}
