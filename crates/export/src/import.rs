//! From named tensors of any program to the network's weights.
//!
//! Two ways of naming are understood: the network's own (`conv1.kernel`, channels last) and PyTorch's
//! (`conv1.weight`, channels first), also as its wrappers write it. Names, shapes and the values' finiteness are checked; nothing is guessed.

use lockstep_model::{PARAMETERS, TENSORS, TensorSpec};

use crate::pytorch;

/// What PyTorch's wrappers put before every name: data parallel training, and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// A model is wrapped once in each; what has more in front was named by somebody else.
const MAX_WRAPPERS: usize = 4;

/// Characters that an error message shows of what a file says: it may say anything, at any length.
const CHARACTERS_SHOWN: usize = 80;
/// Names that an error message lists before it says "and more".
const NAMES_SHOWN: usize = 4;

/// A tensor with its name and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major; as many as the shape asks for.
    pub values: Vec<f32>,
}

/// Named tensors are not this network's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// No name is known.
    #[error(
        "it has none of this network's tensors (conv1.kernel to dense2.bias, or PyTorch's conv1.weight to dense2.bias), \
         but {found}"
    )]
    Foreign {
        /// The first names, as they may be printed, or that there are none.
        found: String,
    },
    /// A tensor is not there.
    #[error("its tensor {name} is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A tensor has another shape.
    #[error("its tensor {name} has the shape {} instead of {expected:?}", shown(&format!("{actual:?}")))]
    Shape {
        /// Its name.
        name: &'static str,
        /// As it is.
        actual: Vec<usize>,
        /// As it must be.
        expected: Vec<usize>,
    },
    /// There is a tensor too many.
    #[error("it has a tensor {}, which this network does not have", shown(name))]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A value is infinite or not a number.
    #[error("its tensor {name} has values that are not finite")]
    NotFinite {
        /// Its name.
        name: &'static str,
    },
}

/// The weights, `[PARAMETERS]` in the network's order, from exactly its ten tensors, in any order.
///
/// # Errors
///
/// [`ImportError`], the first that is found.
pub fn weights_of_tensors(tensors: &[NamedTensor]) -> Result<Box<[f32]>, ImportError> {
    let unwrapped = unwrapped(tensors);
    let tensors = unwrapped.as_deref().unwrap_or(tensors);
    let kernels = |names: &dyn Fn(usize) -> &'static str| {
        // The biases have the same names everywhere.
        (0..TENSORS.len()).step_by(2).any(|index| tensors.iter().any(|tensor| tensor.name == names(index)))
    };
    if kernels(&|index| TENSORS[index].name) {
        let copy = |spec: &TensorSpec, values: &[f32], weights: &mut [f32]| {
            weights[spec.range()].copy_from_slice(values);
        };
        collect(tensors, &TENSORS.map(|spec| spec.name), &|spec| spec.shape.to_vec(), &copy)
    } else if kernels(&|index| pytorch::NAMES[index]) {
        collect(tensors, &pytorch::NAMES, &pytorch::shape, &pytorch::put)
    } else {
        Err(ImportError::Foreign { found: list(tensors) })
    }
}

/// The tensors without the wrappers that all of them have in front, if there are any.
fn unwrapped(tensors: &[NamedTensor]) -> Option<Vec<NamedTensor>> {
    let first = &tensors.first()?.name;
    let mut inner = first.as_str();
    for _ in 0..MAX_WRAPPERS {
        inner = WRAPPERS.iter().find_map(|wrapper| inner.strip_prefix(wrapper)).unwrap_or(inner);
    }
    let wrappers = &first[..first.len() - inner.len()];
    let strip = |tensor: &NamedTensor| {
        let name = tensor.name.strip_prefix(wrappers)?.to_owned();
        Some(NamedTensor { name, ..tensor.clone() })
    };
    (!wrappers.is_empty()).then(|| tensors.iter().map(strip).collect()).flatten()
}

/// Writes one tensor's values, as the file has them, into the network's weights.
type Put<'a> = &'a dyn Fn(&TensorSpec, &[f32], &mut [f32]);

fn collect(
    tensors: &[NamedTensor],
    names: &[&'static str; 10],
    shape: &dyn Fn(&TensorSpec) -> Vec<usize>,
    put: Put,
) -> Result<Box<[f32]>, ImportError> {
    let mut weights = vec![0.0; PARAMETERS].into_boxed_slice();
    for (spec, &name) in TENSORS.iter().zip(names) {
        let Some(tensor) = tensors.iter().find(|tensor| tensor.name == name) else {
            return Err(ImportError::Missing { name });
        };
        let expected = shape(spec);
        if tensor.shape != expected || tensor.values.len() != spec.len() {
            return Err(ImportError::Shape { name, actual: tensor.shape.clone(), expected });
        }
        if !tensor.values.iter().all(|value| value.is_finite()) {
            return Err(ImportError::NotFinite { name });
        }
        put(spec, &tensor.values, &mut weights);
    }
    match tensors.iter().find(|tensor| !names.contains(&tensor.name.as_str())) {
        Some(tensor) => Err(ImportError::Unknown { name: tensor.name.clone() }),
        None => Ok(weights),
    }
}

fn list(tensors: &[NamedTensor]) -> String {
    if tensors.is_empty() {
        return "no tensor at all".to_owned();
    }
    let names: Vec<String> = tensors.iter().take(NAMES_SHOWN).map(|tensor| shown(&tensor.name)).collect();
    let more = if tensors.len() > NAMES_SHOWN { " and more" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// What a file says, fit for a terminal: on one line, and cut.
fn shown(words: &str) -> String {
    let mut escaped = words.escape_debug();
    let mut shown: String = escaped.by_ref().take(CHARACTERS_SHOWN).collect();
    if escaped.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> Vec<f32> {
        (0..PARAMETERS).map(|place| place as f32 / 7.0 - 99.0).collect()
    }

    fn own() -> Vec<NamedTensor> {
        let weights = weights();
        let tensor = |spec: &TensorSpec| NamedTensor {
            name: spec.name.to_owned(),
            shape: spec.shape.to_vec(),
            values: weights[spec.range()].to_vec(),
        };
        TENSORS.iter().map(tensor).collect()
    }

    #[test]
    fn both_ways_of_naming_give_the_same_bits_back_in_any_order() {
        for mut tensors in [own(), pytorch::tensors(&weights())] {
            assert_eq!(*weights_of_tensors(&tensors).unwrap(), *weights());
            tensors.reverse();
            assert_eq!(*weights_of_tensors(&tensors).unwrap(), *weights());
        }
    }

    #[test]
    fn what_pytorchs_wrappers_put_before_the_names_is_no_part_of_them() {
        let wrapped = |wrapper: &str| {
            let mut tensors = pytorch::tensors(&weights());
            tensors.iter_mut().for_each(|tensor| tensor.name.insert_str(0, wrapper));
            tensors
        };
        for wrapper in ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."] {
            assert_eq!(*weights_of_tensors(&wrapped(wrapper)).unwrap(), *weights(), "{wrapper}");
        }
        // A wrapper wraps all.
        let mut some = wrapped("module.");
        some[3].name = "conv2.bias".to_owned();
        assert!(matches!(
            weights_of_tensors(&some),
            Err(ImportError::Foreign { .. } | ImportError::Missing { .. })
        ));
    }

    #[test]
    fn what_is_not_this_network_is_named() {
        let refusal = |change: &dyn Fn(&mut Vec<NamedTensor>)| {
            let mut tensors = pytorch::tensors(&weights());
            change(&mut tensors);
            weights_of_tensors(&tensors).unwrap_err().to_string()
        };
        assert_eq!(refusal(&|all| drop(all.remove(3))), "its tensor conv2.bias is missing");
        assert_eq!(refusal(&|all| drop(all.remove(6))), "its tensor dense1.weight is missing");
        assert_eq!(
            refusal(&|all| all[0].shape = vec![16, 3, 3, 1]),
            "its tensor conv1.weight has the shape [16, 3, 3, 1] instead of [16, 1, 3, 3]"
        );
        assert_eq!(
            refusal(&|all| {
                let more = NamedTensor { name: "dense3.bias".to_owned(), ..all[1].clone() };
                all.push(more);
            }),
            "it has a tensor dense3.bias, which this network does not have"
        );
        assert_eq!(
            refusal(&|all| all[8].values[77] = f32::NAN),
            "its tensor dense2.weight has values that are not finite"
        );
        // PyTorch's shapes under the network's names.
        assert!(
            refusal(&|all| all[0].name = "conv1.kernel".to_owned())
                .contains("conv1.kernel has the shape [16, 1, 3, 3] instead of [3, 3, 1, 16]")
        );
        let foreign = refusal(&|all| all.iter_mut().for_each(|tensor| tensor.name.insert_str(0, "net.")));
        assert!(
            foreign
                .ends_with("but net.conv1.weight, net.conv1.bias, net.conv2.weight, net.conv2.bias and more")
        );
        assert!(refusal(&|all| all.clear()).ends_with("but no tensor at all"));
    }

    #[test]
    fn what_a_file_calls_its_tensors_stays_short_and_on_one_line() {
        let foreign = |name: &str| NamedTensor { name: name.to_owned(), shape: vec![1], values: vec![0.0] };
        let long = "\n\u{1b}[31mred".repeat(1_000);
        let mut tensors = own();
        tensors.push(foreign(&long));
        let unknown = weights_of_tensors(&tensors).unwrap_err().to_string();
        assert!(unknown.starts_with("it has a tensor \\n\\u{1b}[31mred\\n"), "{unknown}");
        let none = weights_of_tensors(&vec![foreign(&long); 9]).unwrap_err().to_string();
        tensors[0].shape = vec![1; 100_000];
        let shape = weights_of_tensors(&tensors).unwrap_err().to_string();
        for (message, most) in [(unknown, 200), (none, 600), (shape, 200)] {
            assert!(!message.contains(char::is_control), "{message}");
            assert!(message.chars().count() < most && message.contains('…'), "{message}");
        }
    }
}
