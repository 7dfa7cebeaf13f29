//! What was computed again, held against what the run says of itself: differences, and what could not be seen.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use lockstep_model::Digest;

use super::kept::{Kept, State};

/// Steps without a record that are named one by one; there may be as many as the disk stalled.
const MAX_NAMED: usize = 20;

/// What the log says besides its records.
pub struct Log {
    /// The last step that has a record.
    pub last_step: u64,
    /// What is wrong with it, in sentences.
    pub damages: Vec<String>,
}

/// What was found so far.
pub struct Findings<'a> {
    kept: &'a Kept,
    steps: RangeInclusive<u64>,
    /// Records that are as computed.
    compared: u64,
    /// Steps without a record.
    missing: Vec<RangeInclusive<u64>>,
    /// The last step that gave the weights of the final model.
    model_step: Option<u64>,
}

/// The end of a verification.
pub struct Verdict {
    /// For people.
    pub lines: Vec<String>,
    /// Nothing that was seen is wrong, and what was not seen is explained.
    pub sound: bool,
}

impl<'a> Findings<'a> {
    /// Nothing found yet of these steps.
    pub fn new(kept: &'a Kept, steps: RangeInclusive<u64>) -> Self {
        Self { kept, steps, compared: 0, missing: Vec::new(), model_step: None }
    }

    /// Takes in the digest that a step gave, and its record.
    ///
    /// # Errors
    ///
    /// The sentence that names the difference.
    pub fn take(&mut self, step: u64, actual: Digest, logged: Option<Digest>) -> Result<(), String> {
        let differs = |place: &str, kept: Digest| {
            format!(
                "step {step} differs: computed again, its weights have the digest {actual}, {place} has {kept}"
            )
        };
        if let Some(logged) = logged {
            if logged != actual {
                return Err(differs("the log", logged));
            }
            self.compared += 1;
        } else {
            match self.missing.last_mut() {
                Some(last) if *last.end() + 1 == step => *last = *last.start()..=step,
                _ => self.missing.push(step..=step),
            }
        }
        if let Some(state) = self.states().find(|state| state.step == step && state.digest != actual) {
            return Err(differs(&state.place, state.digest));
        }
        if self.kept.model.as_ref().is_some_and(|model| model.digest == Ok(actual)) {
            self.model_step = Some(step);
        }
        Ok(())
    }

    fn states(&self) -> impl Iterator<Item = &'a State> {
        self.kept.states.iter()
    }

    /// What came of it, if no step differs.
    pub fn conclude(self, log: &Log) -> Verdict {
        let (from, to) = (*self.steps.start(), *self.steps.end());
        let without = to - from + 1 - self.compared;
        let without = if without > 0 { format!(" ({without} have no record)") } else { String::new() };
        let mut lines = vec![format!(
            "steps {from} to {to}: {} digests computed again, all as logged{without}",
            self.compared
        )];
        let places: BTreeSet<&str> = self
            .states()
            .filter(|state| self.steps.contains(&state.step))
            .map(|state| &*state.place)
            .collect();
        if !places.is_empty() {
            lines.push(format!("as computed, too: {}", Vec::from_iter(places).join(", ")));
        }
        let mut sound = true;
        let mut unseen = self.missing_records(log, &mut sound);
        unseen.extend(log.damages.iter().cloned());
        unseen.extend(self.kept.unreadable.iter().cloned());
        self.judge_model(log, &mut lines, &mut unseen, &mut sound);
        lines.extend(unseen.into_iter().map(|sentence| format!("not seen: {sentence}")));
        Verdict { lines, sound }
    }

    /// Sentences about the steps without a record.
    fn missing_records(&self, log: &Log, sound: &mut bool) -> Vec<String> {
        let mut sentences: Vec<String> = Vec::new();
        for steps in &self.missing {
            let why = if *steps.end() <= log.last_step {
                "the log goes on behind them: it was not written, or damaged, in between".to_string()
            } else {
                self.why_the_log_ends(log, sound)
            };
            let subject = match (steps.start(), steps.end()) {
                (first, last) if first == last => format!("step {first} has no record"),
                (first, last) => format!("steps {first} to {last} have no record"),
            };
            sentences.push(format!("{subject}: {why}"));
        }
        let more = sentences.len().saturating_sub(MAX_NAMED);
        if more > 0 {
            // The end of the log is the last one, and tells most.
            sentences.drain(MAX_NAMED - 1..sentences.len() - 1);
            sentences.push(format!("{more} more gaps of this kind"));
        }
        sentences
    }

    fn why_the_log_ends(&self, log: &Log, sound: &mut bool) -> String {
        let ends = format!("the log ends with step {}, before the run did", log.last_step);
        if !log.damages.is_empty() {
            return format!("{ends}, and it is damaged");
        }
        match &self.kept.not_recorded {
            None => format!("{ends}; the run keeps no events that could say why"),
            Some(events) => match events.last() {
                Some(reason) => format!("{ends}, as the run says: {reason}"),
                None => {
                    *sound = false;
                    format!("{ends}, and no event says why: it was cut, or is an older copy")
                }
            },
        }
    }

    /// Whether the final model is a state of this run, and the one of its end.
    fn judge_model(&self, log: &Log, lines: &mut Vec<String>, unseen: &mut Vec<String>, sound: &mut bool) {
        let Some(model) = &self.kept.model else { return };
        let path = model.path.display();
        let digest = match &model.digest {
            Ok(digest) => digest,
            Err(flaw) => {
                *sound = false;
                return lines.push(format!("{path} does not belong to this run: {flaw}"));
            }
        };
        let end = log.last_step.max(self.kept.last_step());
        let ended = self.kept.ended();
        match (ended, self.model_step) {
            (Some(ended), _) if ended.digest == *digest => {
                lines.push(format!("{path} is the state after step {}", ended.step));
            }
            (ended, Some(step)) if ended.is_none_or(|ended| step > ended.step) => {
                lines.push(format!("{path} is the state after step {step}, as computed"));
            }
            // A run that went on and lost its workers has a model that no summary tells of.
            (ended, _)
                if *self.steps.end() < end
                    || ended.map_or(1, |ended| ended.step + 1) < *self.steps.start() =>
            {
                unseen.push(format!("whether {path} is a state of this run: its step is not among these"));
            }
            (ended, step) => {
                *sound = false;
                let is = match step {
                    Some(step) => format!("it is the state after step {step}"),
                    None => format!("its weights have the digest {digest}, which no step gave"),
                };
                let expected = ended.map_or(end, |ended| ended.step);
                lines.push(format!("{path} is not the state after step {expected}: {is}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Model;
    use super::*;

    fn digest(step: u64) -> Digest {
        Digest([step as u8; 32])
    }

    fn kept(model: Option<Digest>, summary: Option<u64>, events: Option<&[&str]>) -> Kept {
        let state = |step, place: &str| State { step, digest: digest(step), place: place.to_string() };
        Kept {
            states: std::iter::once(state(2, "checkpoint 2"))
                .chain(summary.map(|step| state(step, "summary")))
                .collect(),
            unreadable: Vec::new(),
            model: model.map(|digest| Model { path: "model".into(), digest: Ok(digest) }),
            ended: summary.is_some().then_some(1),
            not_recorded: events.map(|events| events.iter().map(ToString::to_string).collect()),
        }
    }

    /// Verifies steps 1 to `to`, of which those in `logged` have a record, and the log ends with `last`.
    fn verdict(kept: &Kept, to: u64, logged: impl Fn(u64) -> bool, last: u64) -> (String, bool) {
        let mut findings = Findings::new(kept, 1..=to);
        for step in 1..=to {
            findings.take(step, digest(step), logged(step).then(|| digest(step))).unwrap();
        }
        let Verdict { lines, sound } = findings.conclude(&Log { last_step: last, damages: Vec::new() });
        (lines.join("\n"), sound)
    }

    #[test]
    fn all_that_is_there_is_as_computed() {
        let kept = kept(Some(digest(4)), Some(4), Some(&[]));
        let (text, sound) = verdict(&kept, 4, |_| true, 4);
        assert_eq!(
            text,
            "steps 1 to 4: 4 digests computed again, all as logged\nas computed, too: checkpoint 2, summary\n\
             model is the state after step 4"
        );
        assert!(sound);
    }

    #[test]
    fn a_difference_names_the_step_and_who_says_so() {
        let kept = kept(None, Some(4), None);
        let mut findings = Findings::new(&kept, 1..=4);
        let logged = findings.take(1, digest(1), Some(digest(9))).unwrap_err();
        assert!(logged.starts_with("step 1 differs") && logged.contains("the log has 0909"), "{logged}");
        let checkpoint = findings.take(2, digest(7), None).unwrap_err();
        assert!(checkpoint.contains("checkpoint 2 has 0202"), "{checkpoint}");
        let summary = findings.take(4, digest(7), None).unwrap_err();
        assert!(summary.contains("summary has 0404"), "{summary}");
    }

    #[test]
    fn a_gap_within_the_log_is_told_and_is_no_failure() {
        let kept = kept(None, None, Some(&[]));
        let (text, sound) = verdict(&kept, 6, |step| !(2..=4).contains(&step), 6);
        assert!(text.contains("3 digests computed again, all as logged (3 have no record)"), "{text}");
        assert!(
            text.contains("not seen: steps 2 to 4 have no record: the log goes on behind them"),
            "{text}"
        );
        assert!(sound);
    }

    #[test]
    fn a_log_that_ends_before_the_run_fails_unless_something_says_why() {
        let tried = |events: Option<&[&str]>| verdict(&kept(None, Some(6), events), 6, |step| step <= 3, 3);
        let (text, sound) = tried(Some(&[]));
        assert!(text.contains("not seen: steps 4 to 6 have no record: the log ends with step 3"), "{text}");
        assert!(text.contains("it was cut") && !sound, "{text}");
        let (text, sound) = tried(Some(&["the disk is behind"]));
        assert!(text.contains("as the run says: the disk is behind") && sound, "{text}");
        let (text, sound) = tried(None);
        assert!(text.contains("keeps no events") && sound, "{text}");
    }

    #[test]
    fn a_model_that_is_not_the_end_of_its_run_fails() {
        for (model, says) in [(digest(3), "it is the state after step 3"), (digest(99), "which no step gave")]
        {
            let (text, sound) = verdict(&kept(Some(model), Some(4), None), 4, |_| true, 4);
            assert!(text.contains("model is not the state after step 4") && text.contains(says), "{text}");
            assert!(!sound);
        }
        // A run that went on and lost its workers: no summary tells of its model.
        let (text, sound) = verdict(&kept(Some(digest(5)), Some(4), None), 6, |_| true, 6);
        assert!(text.contains("model is the state after step 5, as computed") && sound, "{text}");
        // Not all steps that it could be of were looked at.
        let (text, sound) = verdict(&kept(Some(digest(5)), None, None), 3, |_| true, 6);
        assert!(text.contains("not seen: whether model is a state of this run") && sound, "{text}");
    }

    #[test]
    fn many_gaps_are_named_up_to_a_bound_and_the_end_of_the_log_always() {
        let kept = kept(None, Some(101), Some(&["the disk is behind"]));
        let (text, _) = verdict(&kept, 101, |step| step % 2 == 0 && step < 100, 98);
        assert_eq!(text.lines().filter(|line| line.contains(" no record:")).count(), MAX_NAMED, "{text}");
        assert!(text.contains("steps 99 to 101 have no record: the log ends with step 98"), "{text}");
        assert!(text.contains("30 more gaps"), "{text}");
    }
}
