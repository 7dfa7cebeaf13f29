//! The verdict as text: CSV with every figure in base units, Markdown to be read, also as it is on a terminal.

use std::fmt::Write;

use lockstep_records::percent;

use super::verdict::{Row, Verdict};

/// The columns of the CSV, units last.
const CSV_COLUMNS: &str = "workers,threads,oversubscribed,batch_size,examples_per_second,examples_per_second_min,\
     examples_per_second_max,efficiency,step_seconds,send_seconds,compute_seconds_median,wait_seconds,reduce_seconds,\
     update_seconds,bytes_sent,bytes_received,coordinator_cpu_seconds,workers_cpu_seconds,\
     coordinator_cpu_seconds_per_step,workers_cpu_seconds_per_step,weights_digest";

/// A line per row, below one with the names of the columns.
pub fn csv(verdict: &Verdict) -> String {
    let mut text = format!("{CSV_COLUMNS}\n");
    for row in &verdict.rows {
        let (speed, step) = (row.examples_per_second, row.step);
        let (cpu, cpu_step) = (row.cpu_seconds, row.cpu_seconds_per_step);
        let _ = write!(text, "{},{},{},{},", row.workers, row.threads, row.oversubscribed, row.batch_size);
        let _ = write!(text, "{:.1},{:.1},{:.1},{:.4},", speed.median, speed.min, speed.max, row.efficiency);
        let seconds = [
            step.seconds,
            step.send_seconds,
            step.compute_seconds_median,
            step.wait_seconds,
            step.reduce_seconds,
            step.update_seconds,
        ];
        seconds.iter().for_each(|seconds| text.push_str(&format!("{seconds:.9},")));
        let _ = write!(text, "{},{},", step.bytes_sent, step.bytes_received);
        let seconds = [cpu.coordinator, cpu.workers, cpu_step.coordinator, cpu_step.workers];
        seconds.iter().for_each(|seconds| text.push_str(&format!("{seconds:.9},")));
        let _ = writeln!(text, "{}", row.weights_digest);
    }
    text
}

/// What was measured where, two tables, the cost of the coordinator and the digests.
pub fn markdown(verdict: &Verdict) -> String {
    let kind = if verdict.weak { "Weak" } else { "Strong" };
    let mut text = format!("# {kind} scaling on the generated digits\n\n    {}\n\n", verdict.command);
    let _ = writeln!(
        text,
        "Begun {}, version {}, {} cores ({}). Runs of {} steps; rounds: {}, of which medians are shown.",
        verdict.began,
        verdict.version,
        verdict.machine.cores,
        verdict.machine.processor,
        verdict.steps,
        verdict.rounds
    );
    if verdict.weak {
        text.push_str("The batch grows with the workers.\n");
    }
    text.push('\n');
    text.push_str(&table(&SPEED_COLUMNS, &verdict.rows));
    if verdict.rows.iter().any(|row| row.oversubscribed) {
        let _ = writeln!(
            text,
            "\n\\* more threads than the {} cores: these workers take turns, and their efficiency says little of a \
             machine that has a core for each.",
            verdict.machine.cores
        );
    }
    text.push_str(
        "\nCPU time is that of a step alone, without start and evaluation. A step, median over steps:\n\n",
    );
    text.push_str(&table(&STEP_COLUMNS, &verdict.rows));
    text.push_str(
        "\n`compute` is the median of a node, by its worker's clock; the rest is the coordinator's.\n\n",
    );
    for cost in &verdict.coordinator_costs {
        let _ = match cost.seconds {
            Some(line) => writeln!(
                text,
                "CPU time of the coordinator, batch size {}{}: {} us a step and {} us for each worker (least squares).\n",
                cost.named_batch_size,
                if verdict.weak { " a worker" } else { "" },
                microseconds(line.at_zero),
                microseconds(line.slope)
            ),
            None => writeln!(
                text,
                "CPU time of the coordinator, batch size {}: its growth needs more than one number of workers.\n",
                cost.named_batch_size
            ),
        };
    }
    // Those of the runs of one step were compared too, and are in the JSON.
    for weights in verdict.weights.iter().filter(|weights| weights.steps == u64::from(verdict.steps)) {
        let _ = writeln!(
            text,
            "Weights after {} steps of {} examples, the same bits in all {} runs: {}\n",
            weights.steps, weights.batch_size, weights.runs, weights.digest
        );
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// A column of a table: what stands above it, and in it.
type Column = (&'static str, fn(&Row) -> String);

const SPEED_COLUMNS: [Column; 9] = [
    ("workers", |row| row.workers.to_string()),
    ("threads", |row| format!("{}{}", row.threads, if row.oversubscribed { "\\*" } else { "" })),
    ("batch size", |row| row.batch_size.to_string()),
    ("examples/s", |row| format!("{:.0}", row.examples_per_second.median)),
    ("min", |row| format!("{:.0}", row.examples_per_second.min)),
    ("max", |row| format!("{:.0}", row.examples_per_second.max)),
    ("efficiency", |row| percent(row.efficiency, 1)),
    ("coordinator CPU, us", |row| microseconds(row.cpu_seconds_per_step.coordinator)),
    ("workers CPU, us", |row| microseconds(row.cpu_seconds_per_step.workers)),
];

const STEP_COLUMNS: [Column; 10] = [
    ("workers", |row| row.workers.to_string()),
    ("batch size", |row| row.batch_size.to_string()),
    ("step, us", |row| microseconds(row.step.seconds)),
    ("send", |row| microseconds(row.step.send_seconds)),
    ("compute", |row| microseconds(row.step.compute_seconds_median)),
    ("wait", |row| microseconds(row.step.wait_seconds)),
    ("reduce", |row| microseconds(row.step.reduce_seconds)),
    ("update", |row| microseconds(row.step.update_seconds)),
    ("sent, kB", |row| format!("{:.1}", row.step.bytes_sent / 1e3)),
    ("received, kB", |row| format!("{:.1}", row.step.bytes_received / 1e3)),
];

/// A Markdown table, its columns aligned for whoever reads it as it is.
fn table(columns: &[Column], rows: &[Row]) -> String {
    let mut lines = vec![String::from("|"), String::from("|")];
    lines.resize(2 + rows.len(), String::from("|"));
    for (title, cell) in columns {
        let cells: Vec<String> = rows.iter().map(cell).collect();
        let width = cells.iter().map(String::len).chain([title.len()]).max().unwrap_or_default();
        let _ = write!(lines[0], " {title:>width$} |");
        let _ = write!(lines[1], "-{}:|", "-".repeat(width));
        for (line, cell) in lines[2..].iter_mut().zip(cells) {
            let _ = write!(line, " {cell:>width$} |");
        }
    }
    lines.join("\n") + "\n"
}

/// Small times with a digit more.
fn microseconds(seconds: f64) -> String {
    let microseconds = seconds * 1e6;
    if microseconds.abs() < 99.95 { format!("{microseconds:.1}") } else { format!("{microseconds:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::tests::strong;

    #[test]
    fn the_csv_has_every_figure_in_base_units() {
        let csv = csv(&strong());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 4);
        let names: Vec<&str> = lines[0].split(',').collect();
        for line in &lines[1..] {
            assert_eq!(line.split(',').count(), names.len(), "{line}");
        }
        let cell = |line: usize, name: &str| {
            let column = names.iter().position(|known| *known == name).unwrap();
            lines[line].split(',').nth(column).unwrap()
        };
        for (name, expected) in [
            ("workers", "4"),
            ("threads", "4"),
            ("oversubscribed", "true"),
            ("batch_size", "64"),
            ("examples_per_second", "32000.0"),
            ("examples_per_second_min", "31000.0"),
            ("examples_per_second_max", "33000.0"),
            ("efficiency", "0.4000"),
            ("step_seconds", "0.003000000"),
            ("update_seconds", "0.000008000"),
            ("bytes_sent", "531104"),
            ("bytes_received", "132776"),
            ("coordinator_cpu_seconds_per_step", "0.000300000"),
            ("workers_cpu_seconds_per_step", "0.003000000"),
            ("weights_digest", &"ab".repeat(32)),
        ] {
            assert_eq!(cell(3, name), expected, "{name}");
        }
        assert_eq!(cell(1, "oversubscribed"), "false");
    }

    #[test]
    fn the_tables_are_aligned() {
        let text = markdown(&strong());
        let begin = text.find("| workers").unwrap();
        let table: Vec<&str> = text[begin..].lines().take_while(|line| line.starts_with('|')).collect();
        let expected = [
            "| workers | threads | batch size | examples/s |   min |   max | efficiency | coordinator CPU, us | workers CPU, us |",
            "|--------:|--------:|-----------:|-----------:|------:|------:|-----------:|--------------------:|----------------:|",
            "|       1 |       1 |         64 |      20000 | 19000 | 21000 |    100.0 % |                 150 |            1500 |",
            "|       2 |       2 |         64 |      30000 | 29000 | 31000 |     75.0 % |                 200 |            2000 |",
            "|       4 |     4\\* |         64 |      32000 | 31000 | 33000 |     40.0 % |                 300 |            3000 |",
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn the_text_says_what_was_measured_and_what_follows() {
        let mut verdict = strong();
        let text = markdown(&verdict);
        let digest = "ab".repeat(32);
        for part in [
            "# Strong scaling",
            verdict.command.as_str(),
            "Begun 20261123T181530Z, version ",
            "2 cores (a processor)",
            "Runs of 101 steps; rounds: 3, of which medians are shown.",
            "\\* more threads than the 2 cores",
            "batch size 64: 100 us a step and 50.0 us for each worker (least squares)",
            &format!("Weights after 101 steps of 64 examples, the same bits in all 9 runs: {digest}"),
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("cdcd"), "the weights after one step are not in the text");
        verdict.rows.truncate(2);
        assert!(!markdown(&verdict).contains("more threads"));
    }

    #[test]
    fn small_times_have_a_digit_more() {
        assert_eq!(microseconds(0.000_008_34), "8.3");
        assert_eq!(microseconds(0.000_099_96), "100");
        assert_eq!(microseconds(0.003_2), "3200");
        assert_eq!(microseconds(-0.000_002), "-2.0");
    }
}
