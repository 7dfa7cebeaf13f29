//! How the run went, as sections of the report: where its time went, its workers, its last events.

use std::fmt::Write;

use lockstep_records::{WorkerRecord, WorkerState, WorkersRecord};

use super::sections::{counted, grouped, sentence};
use super::{RunData, escape};

/// Of the events that the history keeps, the ones that are shown.
const SHOWN_EVENTS: usize = 40;

/// Of the workers that there were, the ones that are shown.
const SHOWN_WORKERS: usize = 64;

/// Where a step's time goes.
pub fn times(run: &RunData) -> String {
    let totals = run.records.totals;
    if totals.steps == 0 || totals.seconds <= 0.0 {
        return sentence("This is not known: metrics.jsonl has no steps.");
    }
    let steps = totals.steps as f64;
    let rest = (totals.seconds - totals.parts.iter().sum::<f64>()).max(0.0);
    let [sending, waiting, adding, updating] = totals.parts;
    let rows = [
        ("Sending weights and work", sending),
        ("Waiting while workers compute", waiting),
        ("Adding gradients", adding),
        ("Updating the weights", updating),
        ("Anything else", rest),
    ];
    let mut text = sentence(&format!(
        "As the coordinator sees it, over {}: {:.2} ms each.",
        counted(totals.steps, "step", "steps"),
        totals.seconds / steps * 1e3
    ));
    text.push_str("<table class=\"times\"><tbody>\n");
    for (name, seconds) in rows {
        let share = seconds / totals.seconds * 100.0;
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{name}<span class=\"track\"><span class=\"fill\" style=\"width:{share:.1}%\"></span>\
             </span></th><td>{:.2} ms</td><td>{share:.1} %</td></tr>",
            seconds / steps * 1e3
        );
    }
    text.push_str("</tbody></table>\n");
    let [sent, received] = totals.bytes.map(|bytes| bytes as f64 / steps / 1e3);
    text.push_str(&sentence(&format!(
        "{sent:.0} kB go to the workers in a step, {received:.0} kB come back."
    )));
    text
}

/// Who took part.
pub fn workers(run: &RunData) -> String {
    let records = &run.records;
    let mut text = match records.totals.workers {
        Some((least, most)) if least == most => {
            sentence(&format!("{} at the end of every step.", counted(most.into(), "worker", "workers")))
        }
        Some((least, most)) => sentence(&format!("From {least} to {most} workers at the end of a step.")),
        None => String::new(),
    };
    if let Some(record) = &run.workers {
        text.push_str(&done(record));
    }
    if records.members.is_empty() {
        text.push_str(&sentence("Who they were is not known: events.jsonl has nobody that joined."));
        return text;
    }
    text.push_str(
        "<div class=\"scroll\"><table class=\"members\"><thead><tr><th scope=\"col\">Worker</th><th scope=\"col\">Joined</th>\
         <th scope=\"col\">Left before the end</th></tr></thead>\n<tbody>\n",
    );
    for (name, member) in &records.members {
        let again = if member.joined > 1 {
            format!(", {} times in all", grouped(member.joined))
        } else {
            String::new()
        };
        let left = match &member.last {
            None => "no".to_string(),
            Some((step, reason)) => {
                let times = if member.left > 1 {
                    format!("{} times; last ", grouped(member.left))
                } else {
                    String::new()
                };
                format!("{times}after step {}: {}", grouped(*step), escape(reason))
            }
        };
        let _ = writeln!(
            text,
            "<tr><td><bdi>{}</bdi></td><td>after step {}{again}</td><td>{left}</td></tr>",
            escape(name),
            grouped(member.first)
        );
    }
    text.push_str("</tbody></table></div>\n");
    if records.joined_besides > 0 {
        text.push_str(&sentence(&format!(
            "Others joined {}; events.jsonl names them.",
            counted(records.joined_besides, "time", "times")
        )));
    }
    if let Some(faults) = run.summary.as_ref().and_then(|summary| summary.faults.to_text()) {
        text.push_str(&sentence(&format!("What went wrong and was made good: {faults}.")));
    }
    text
}

/// What each worker did.
fn done(record: &WorkersRecord) -> String {
    let mut text = sentence(
        "What each did from its first assignment on, in the process that ended the run; of its time it \
         computed, had work on the way or in a queue, and waited.",
    );
    text.push_str("<div class=\"scroll\"><table class=\"done\"><thead><tr>");
    for title in ["Worker", "On", "Threads", "Share", "Examples", "Examples/s", "Latency", "Its time"] {
        let _ = write!(text, "<th scope=\"col\">{title}</th>");
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for worker in record.workers.iter().take(SHOWN_WORKERS) {
        let WorkerRecord {
            name, host, cpu, threads, share, compute_share, transfer_share, wait_share, ..
        } = worker;
        let gone = if worker.state == WorkerState::Gone { " (left)" } else { "" };
        let latency =
            worker.latency_seconds.map_or("–".to_string(), |seconds| format!("{:.2} ms", seconds * 1e3));
        let [computed, moved, waited] = [compute_share, transfer_share, wait_share].map(|part| part * 100.0);
        let _ = writeln!(
            text,
            "<tr><td><bdi>{}</bdi> #{}{gone}</td><td><bdi>{}</bdi>, {}</td><td>{threads}</td><td>{:.1} %</td><td>{}</td>\
             <td>{}</td><td>{latency}</td><td>computed {computed:.0} %, on the way {moved:.0} %, waited {waited:.0} %\
             <span class=\"track\"><span class=\"fill\" style=\"width:{computed:.1}%\"></span>\
             <span class=\"fill moved\" style=\"width:{moved:.1}%\"></span></span></td></tr>",
            escape(name),
            worker.worker,
            escape(host),
            escape(cpu),
            share * 100.0,
            grouped(worker.examples + worker.evaluated),
            grouped(worker.examples_per_second.round() as u64),
        );
    }
    text.push_str("</tbody></table></div>\n");
    let more = record.workers.len().saturating_sub(SHOWN_WORKERS);
    if more > 0 {
        text.push_str(&sentence(&format!("And {}.", counted(more as u64, "other", "others"))));
    }
    text
}

/// The last events in words.
pub fn events(run: &RunData) -> String {
    let history = &run.records.history;
    let events = history.events();
    if events.is_empty() {
        return sentence("There are none: events.jsonl is empty, or the run had --no-metrics.");
    }
    let shown = events.range(events.len().saturating_sub(SHOWN_EVENTS)..);
    let mut text = String::new();
    if (shown.len() as u64) < history.event_count() {
        text.push_str(&sentence(&format!(
            "The last {} of {}; events.jsonl has all.",
            shown.len(),
            grouped(history.event_count())
        )));
    }
    text.push_str("<ol class=\"events\">\n");
    for event in shown {
        let _ = writeln!(
            text,
            "<li><span class=\"when\">{:.1} s<br>step {}</span><span>{}</span></li>",
            event.seconds,
            grouped(event.step),
            escape(&event.reason)
        );
    }
    text.push_str("</ol>\n");
    text
}
