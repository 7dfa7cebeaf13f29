//! Runs side by side, a file each: what is read of a run, where two logs first differ, what else differs, and how it is shown.
//!
//! Reads files of runs and changes none of them; says nothing on any stream itself.

pub mod curves;
pub mod differences;
pub mod first_difference;
pub mod plot;
pub mod result;
pub mod run;
pub mod table;
