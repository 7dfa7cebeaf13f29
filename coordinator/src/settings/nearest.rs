//! Finds the known word that a misspelt one was meant to be. Knows nothing of flags or files.

/// The word of `known` that takes the fewest single-letter edits to become `word`, if that is a plausible slip: at
/// most a third of the word, but always two letters.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tolerated = (word.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, _)| *edits <= tolerated)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, one row of the table at a time.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["epochs", "batch-size", "micro-shards", "seed"];
        assert_eq!(nearest("epoch", known), Some("epochs"));
        assert_eq!(nearest("batch_size", known), Some("batch-size"));
        assert_eq!(nearest("microshards", known), Some("micro-shards"));
        assert_eq!(nearest("sede", known), Some("seed"));
        assert_eq!(nearest("momentum", known), None);
        assert_eq!(nearest("", []), None);
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, expected) in [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3)] {
            assert_eq!(edits(from, to), expected, "{from} -> {to}");
        }
    }
}
