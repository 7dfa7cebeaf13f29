//! Finds the known word that a misspelt one was meant to be.

/// The word of `known` that takes the fewest single-letter edits to become `word`, if that is a plausible slip: at
/// most a third of the word, but always two letters.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tolerated = (word.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (strsim::levenshtein(word, candidate), candidate))
        .filter(|(edits, _)| *edits <= tolerated)
        .min()
        .map(|(_, candidate)| candidate)
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
}
