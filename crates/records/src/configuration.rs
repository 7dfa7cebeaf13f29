//! Keys and values of a run's `config.toml` as texts, for who shows them.

/// The keys and values, in order and as they are written there, comments and names of tables left out.
pub fn configuration_pairs(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(" = "));
    pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// Whether generated digits stood in for an MNIST that could not be had, by these keys and values.
pub fn is_fallback(pairs: &[(String, String)]) -> bool {
    pairs.iter().any(|(key, _)| key == "dataset-fallback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_keys_and_values() {
        let text = "# Settings.\nworkers = 4\nlisten = \"127.0.0.1:0\"\n\n[run]\nid = \"ab\"\n";
        let expected = [("workers", "4"), ("listen", "\"127.0.0.1:0\""), ("id", "\"ab\"")];
        let expected = expected.map(|(key, value)| (key.to_string(), value.to_string()));
        let pairs = configuration_pairs(text);
        assert_eq!((is_fallback(&pairs), pairs), (false, expected.to_vec()));
        let text = "[run]\nid = \"ab\"\ndataset-fallback = \"no mirror\"\n";
        assert!(is_fallback(&configuration_pairs(text)));
    }
}
