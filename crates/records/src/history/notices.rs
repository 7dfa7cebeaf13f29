//! Lines that stay at the top of the page: what is wrong with the disk while it lasts, and what is missing for it after.
//!
//! They are taken from events, however many come behind, and of a run that is shown from its files from its log of steps.

use std::ops::RangeInclusive;

use serde::Serialize;

/// Lines that a page has; of more, the oldest goes that is over.
const MAX_NOTICES: usize = 8;

/// A line that stays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// What it is about.
    #[serde(skip)]
    topic: Topic,
    /// The sentence.
    pub sentence: String,
    /// It tells of what was, not of what is.
    pub over: bool,
}

/// What a line is about: of each there is one at a time that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    /// The records of steps.
    Log,
    /// The files of records beside it.
    Records,
    /// Checkpoints.
    Checkpoint,
    /// Whether the disk answers.
    Disk,
}

/// What kinds of events begin, and what kinds end or leave behind.
fn topic_of(kind: &str) -> Option<(Topic, bool)> {
    Some(match kind {
        "log_failed" | "disk_behind" => (Topic::Log, false),
        "disk_caught_up" | "log_goes_on" => (Topic::Log, true),
        "records_lost" => (Topic::Records, true),
        "not_saved" => (Topic::Checkpoint, false),
        "saved_again" => (Topic::Checkpoint, true),
        "disk_stalled" => (Topic::Disk, false),
        "disk_answers" => (Topic::Disk, true),
        _ => return None,
    })
}

/// Whether a line tells of events of this kind.
pub fn is_told_of(kind: &str) -> bool {
    topic_of(kind).is_some()
}

/// All lines of a run.
#[derive(Default)]
pub struct Notices {
    list: Vec<Notice>,
}

impl Notices {
    /// Takes in what an event of this kind says.
    pub fn event(&mut self, kind: &str, sentence: &str) {
        let Some((topic, over)) = topic_of(kind) else { return };
        self.list.retain(|notice| notice.topic != topic || notice.over);
        self.add(Notice { topic, sentence: sentence.to_string(), over });
    }

    /// Takes in what the log of steps itself says, which knows it better than events.
    pub fn log_says(&mut self, gaps: &[RangeInclusive<u64>]) {
        self.list.retain(|notice| notice.topic != Topic::Log);
        for gap in gaps {
            self.add(Notice { topic: Topic::Log, sentence: of_gap(gap), over: true });
        }
    }

    fn add(&mut self, notice: Notice) {
        self.list.push(notice);
        if self.list.len() > MAX_NOTICES {
            self.list.remove(self.list.iter().position(|notice| notice.over).unwrap_or(0));
        }
    }

    /// The lines, the oldest first.
    pub fn list(&self) -> &[Notice] {
        &self.list
    }
}

fn of_gap(gap: &RangeInclusive<u64>) -> String {
    let (from, to) = (gap.start(), gap.end());
    let steps = if from == to { format!("step {from} has") } else { format!("steps {from} to {to} have") };
    format!("{steps} no record in the log: `coordinator verify` has nothing to compare with there")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(notices: &Notices) -> Vec<(&str, bool)> {
        notices.list().iter().map(|notice| (notice.sentence.as_str(), notice.over)).collect()
    }

    #[test]
    fn what_lasts_stays_until_it_is_over_and_what_is_missing_for_it_after() {
        let mut notices = Notices::default();
        notices.event("disk_stalled", "the disk does not answer");
        notices.event("disk_behind", "steps are not recorded");
        notices.event("copied", "late");
        notices.event("not_saved", "no checkpoint");
        notices.event("log_failed", "steps are still not recorded");
        let now = [
            ("the disk does not answer", false),
            ("no checkpoint", false),
            ("steps are still not recorded", false),
        ];
        assert_eq!(told(&notices), now);
        notices.event("disk_answers", "it answers");
        notices.event("disk_caught_up", "steps 751 to 4800 have no record");
        notices.event("records_lost", "3 records are missing");
        notices.event("saved_again", "checkpoints are written again");
        let after = [
            ("it answers", true),
            ("steps 751 to 4800 have no record", true),
            ("3 records are missing", true),
            ("checkpoints are written again", true),
        ];
        assert_eq!(told(&notices), after);
        notices.event("log_failed", "the log cannot be written");
        notices.event("steps_missing", "step 9 has no record");
        assert_eq!(told(&notices).last(), Some(&("the log cannot be written", false)));
        notices.event("log_goes_on", "the log is written again");
        assert_eq!(told(&notices).last(), Some(&("the log is written again", true)));
    }

    #[test]
    fn lines_are_bounded_and_what_is_so_now_stays_longest() {
        let mut notices = Notices::default();
        notices.event("not_saved", "no checkpoint");
        (0..20).for_each(|gap| notices.event("disk_caught_up", &format!("gap {gap}")));
        let told = told(&notices);
        assert_eq!((told.len(), told[0], told[7]), (MAX_NOTICES, ("no checkpoint", false), ("gap 19", true)));
    }

    #[test]
    fn the_log_knows_its_gaps_better_than_events() {
        let mut notices = Notices::default();
        notices.event("log_failed", "steps are not recorded");
        notices.event("not_saved", "no checkpoint");
        notices.log_says(&[751..=4800, 4900..=4900]);
        let known = [
            ("no checkpoint", false),
            (
                "steps 751 to 4800 have no record in the log: `coordinator verify` has nothing to compare with there",
                true,
            ),
            (
                "step 4900 has no record in the log: `coordinator verify` has nothing to compare with there",
                true,
            ),
        ];
        assert_eq!(told(&notices), known);
    }
}
