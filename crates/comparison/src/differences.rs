//! In which fields runs differ.
//!
//! Compares texts; what a field means is for others to know.

use serde::Serialize;

/// A field that is not the same in all runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its key.
    pub field: String,
    /// Its value in each run, in their order; absent where a run does not have it.
    pub values: Vec<Option<String>>,
}

/// Keys and values of one run, each key once.
pub type Fields = Vec<(String, String)>;

/// The fields that are not the same in all of `runs`, in the order in which they first come.
pub fn differences(runs: &[&Fields]) -> Vec<Difference> {
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in runs.iter().copied().flatten() {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let value = |fields: &Fields, key: &String| {
        fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    };
    let of_key = |key: &String| Difference {
        field: key.clone(),
        values: runs.iter().map(|fields| value(fields, key)).collect(),
    };
    let all = keys.into_iter().map(of_key);
    all.filter(|difference| difference.values.iter().any(|value| *value != difference.values[0])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        text.split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn only_what_is_not_the_same_everywhere_is_a_difference() {
        let runs = ["seed=1 workers=2 rate=0.1", "seed=1 workers=2 rate=0.2", "seed=1 workers=4 rate=0.1"];
        let [a, b, c] = runs.map(fields);
        let found = differences(&[&a, &b, &c]);
        let values = |values: [&str; 3]| values.map(|value| Some(value.to_string())).to_vec();
        let expected = [
            Difference { field: "workers".to_string(), values: values(["2", "2", "4"]) },
            Difference { field: "rate".to_string(), values: values(["0.1", "0.2", "0.1"]) },
        ];
        assert_eq!(found, expected);
        assert_eq!(differences(&[&a, &a]), []);
    }

    #[test]
    fn a_field_that_a_run_does_not_have_is_a_difference_too() {
        let [a, b] = ["seed=1", "seed=1 examples=500"].map(fields);
        let expected = |values: [Option<&str>; 2]| {
            let values = values.map(|value| value.map(str::to_string)).to_vec();
            [Difference { field: "examples".to_string(), values }]
        };
        assert_eq!(differences(&[&a, &b]), expected([None, Some("500")]));
        assert_eq!(differences(&[&b, &a]), expected([Some("500"), None]));
    }
}
