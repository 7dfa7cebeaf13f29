//! The first step at which two runs' bits differ, by their step logs.
//!
//! Compares digests only; whether they had to be equal is for others to say.

use serde::Serialize;

/// A step on record, and the digest of the weights after it.
pub type Logged = (u64, [u8; 32]);

/// What two logs say about the steps that both have on record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FirstDifference {
    /// Steps that both have on record.
    pub steps_compared: u64,
    /// The last step before the first difference, or the last of all; 0 if there is none.
    pub last_same_step: u64,
    /// The first step after which their weights differ.
    pub first_different_step: Option<u64>,
    /// Steps compared after which they differ.
    pub different_steps: u64,
    /// Steps compared that come after the first different one.
    steps_after: u64,
}

impl FirstDifference {
    /// Holds one log against the other, over all their steps.
    pub fn of(first: &[Logged], second: &[Logged]) -> Self {
        let mut found = Self::default();
        let mut others = second.iter().peekable();
        for (step, digest) in first {
            // Either log may leave steps out.
            while others.next_if(|(other, _)| other < step).is_some() {}
            let Some((_, other)) = others.next_if(|(other, _)| other == step) else { continue };
            found.steps_compared += 1;
            let different = other != digest;
            found.different_steps += u64::from(different);
            match found.first_different_step {
                Some(_) => found.steps_after += 1,
                None if different => found.first_different_step = Some(*step),
                None => found.last_same_step = *step,
            }
        }
        found
    }

    /// The same as a part of a sentence.
    pub fn to_text(self) -> String {
        let Some(step) = self.first_different_step else {
            return match self.steps_compared {
                0 => "no step that both have on record".to_string(),
                1 => "the same bits in the one step that both have".to_string(),
                steps => format!("the same bits in all {steps} steps that both have"),
            };
        };
        let before = match self.last_same_step {
            0 => String::new(),
            last => format!("the same bits up to step {last}, "),
        };
        if self.different_steps == self.steps_after + 1 {
            format!("{before}different from step {step} on")
        } else {
            let (again, after) = (self.different_steps - 1, self.steps_after);
            format!("{before}different at step {step}, and at {again} of the {after} after it")
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The steps of a run that goes on after `start`, with a byte for each digest.
    pub fn logged(start: u64, digests: &[u8]) -> Vec<Logged> {
        (start + 1..).zip(digests.iter().map(|digest| [*digest; 32])).collect()
    }

    fn text(first: &[Logged], second: &[Logged]) -> String {
        let [here, there] = [FirstDifference::of(first, second), FirstDifference::of(second, first)];
        assert_eq!(here, there, "whichever is first");
        here.to_text()
    }

    #[test]
    fn logs_part_at_the_first_step_that_differs() {
        let long = logged(0, &[1, 2, 3, 4]);
        let cases: [(&[u8], &str); 7] = [
            (&[1, 2, 3, 4], "the same bits in all 4 steps that both have"),
            (&[1, 2, 3], "the same bits in all 3 steps that both have"),
            (&[1], "the same bits in the one step that both have"),
            (&[], "no step that both have on record"),
            (&[9, 8, 7, 6, 5], "different from step 1 on"),
            (&[1, 2, 3, 9], "the same bits up to step 3, different from step 4 on"),
            (&[1, 9, 3, 8], "the same bits up to step 1, different at step 2, and at 1 of the 2 after it"),
        ];
        for (digests, expected) in cases {
            assert_eq!(text(&long, &logged(0, digests)), expected, "{digests:?}");
        }
    }

    #[test]
    fn steps_that_one_log_leaves_out_are_not_compared() {
        let whole = logged(0, &[1, 2, 3, 4]);
        let late = logged(2, &[3, 9]);
        assert_eq!(text(&whole, &late), "the same bits up to step 3, different from step 4 on");
        assert_eq!(FirstDifference::of(&whole, &late).steps_compared, 2);
        assert_eq!(text(&whole, &logged(4, &[5])), "no step that both have on record");
    }
}
