//! The environment variable that forces a process's instruction set, for comparing processors and for measurements.
//!
//! Read once, at the start of a program; everything after asks [`Cpu::detect`]. It changes the speed and no bit.

use std::ffi::OsStr;

use lockstep_model::{Cpu, CpuError};

/// The variable; unset or empty, the fastest instruction set is used.
pub const VARIABLE: &str = "LOCKSTEP_CPU";

/// The variable names an instruction set that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE} is '{value}': {cause}; choose one of these, or unset {VARIABLE} for the fastest")]
pub struct ForcedCpuError {
    value: String,
    cause: CpuError,
}

/// Makes the instruction set that the environment names, if any, that of this process.
///
/// # Errors
///
/// If this machine does not have it.
pub fn force_from_environment() -> Result<(), ForcedCpuError> {
    if let Some(cpu) = parse(std::env::var_os(VARIABLE).as_deref())? {
        cpu.force();
    }
    Ok(())
}

fn parse(value: Option<&OsStr>) -> Result<Option<Cpu>, ForcedCpuError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let value = value.to_string_lossy();
    match value.parse() {
        Ok(cpu) => Ok(Some(cpu)),
        Err(cause) => Err(ForcedCpuError { value: value.into_owned(), cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forced_without_a_value() {
        assert_eq!(parse(None), Ok(None));
        assert_eq!(parse(Some(OsStr::new(""))), Ok(None));
    }

    #[test]
    fn every_instruction_set_of_this_machine_can_be_forced() {
        for cpu in Cpu::available() {
            assert_eq!(parse(Some(OsStr::new(&cpu.to_string()))), Ok(Some(cpu)));
        }
    }

    #[test]
    fn a_refusal_names_the_value_what_there_is_and_the_remedy() {
        let have: Vec<String> = Cpu::available().iter().map(Cpu::to_string).collect();
        assert_eq!(
            parse(Some(OsStr::new("mmx"))).unwrap_err().to_string(),
            format!(
                "LOCKSTEP_CPU is 'mmx': no such instruction set; this machine has {}; choose one of these, or unset \
                 LOCKSTEP_CPU for the fastest",
                have.join(", ")
            )
        );
    }
}
