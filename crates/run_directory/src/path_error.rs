//! What is said of a path that a user named and that cannot be had.

use std::io::{Error, ErrorKind};
use std::path::Path;

/// Why `path` cannot be had, for which the system gave `error`: denied, a link to nothing and not there are told apart.
/// It names the path only where that helps: the user has named it already.
pub fn reason(path: &Path, error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory => {
            lockstep_dataset::why_not(path, error)
        }
        _ => error.to_string(),
    }
}
