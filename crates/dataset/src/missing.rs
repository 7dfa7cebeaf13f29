//! Owns the sentence about a path that cannot be had: denied, a link to nothing, and not there are three of them.
//!
//! Looks at folders on the way and opens nothing.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::Path;

/// Why `path` cannot be had, for which the system gave `error`; names what is to blame, which may be a folder or a link
/// on the way.
pub fn why_not(path: &Path, error: &Error) -> String {
    let shown = path.display();
    // The first on the way at which the system stops.
    let mut way: Vec<&Path> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    way.reverse();
    let stop = way.iter().position(|part| fs::metadata(part).is_err());
    let parent = stop.and_then(|at| at.checked_sub(1)).map_or(Path::new("."), |at| way[at]).display();
    match (error.kind(), stop.map(|at| way[at])) {
        (ErrorKind::NotFound, Some(stop)) => match fs::read_link(stop) {
            Ok(target) if stop == path => {
                format!("{shown} is a link to {}, and nothing is there", target.display())
            }
            Ok(target) => format!(
                "there is no {shown}: {} is a link to {}, and nothing is there",
                stop.display(),
                target.display()
            ),
            Err(_) if stop == path => format!("there is no {shown}"),
            Err(_) => format!("there is no {shown}, nor a folder {}", stop.display()),
        },
        (ErrorKind::NotADirectory, Some(_)) => {
            format!("there is no {shown}: {parent} is a file and no folder")
        }
        (ErrorKind::PermissionDenied, Some(_)) => {
            format!("{shown} cannot be looked at: this user may not search the folder {parent}")
        }
        (ErrorKind::PermissionDenied, None) => format!("{shown} is there, but this user may not open it"),
        _ => format!("cannot open {shown}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn denied_a_link_to_nothing_and_not_there_are_three_sentences() {
        let scratch = tempfile::tempdir().unwrap();
        let base = scratch.path();
        fs::create_dir(base.join("closed")).unwrap();
        fs::write(base.join("closed/file"), "").unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("gone", base.join("link")).unwrap();
        let sentence = |name: &str| {
            let path = base.join(name);
            let error = File::open(&path).unwrap_err();
            why_not(&path, &error).replace(&format!("{}/", base.display()), "")
        };
        assert_eq!(sentence("absent"), "there is no absent");
        assert_eq!(sentence("no/such/file"), "there is no no/such/file, nor a folder no");
        assert_eq!(sentence("link"), "link is a link to gone, and nothing is there");
        assert_eq!(
            sentence("link/file"),
            "there is no link/file: link is a link to gone, and nothing is there"
        );
        assert_eq!(sentence("file/file"), "there is no file/file: file is a file and no folder");
        for (name, expected) in [
            ("closed/file", "closed/file cannot be looked at: this user may not search the folder closed"),
            ("file", "file is there, but this user may not open it"),
        ] {
            let closed = if name == "file" { name } else { "closed" };
            fs::set_permissions(base.join(closed), fs::Permissions::from_mode(0o000)).unwrap();
            // The superuser may: nothing is denied then.
            if File::open(base.join(name)).is_err() {
                assert_eq!(sentence(name), expected);
            }
            fs::set_permissions(base.join(closed), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let denied = Error::from(ErrorKind::PermissionDenied);
        assert_eq!(
            why_not(Path::new("/"), &denied),
            "/ is there, but this user may not open it",
            "whoever runs this test"
        );
    }
}
