//! Names that a folder may have in it before anybody has put anything there: left by file systems, desktops, cluster
//! managers and launchers. A folder with nothing else counts as empty.
//!
//! None of them is a name that a run gives, and none is ever written or removed.

use std::ffi::OsStr;

/// How a name is recognised.
enum Pattern {
    Whole(&'static str),
    Begins(&'static str),
    Ends(&'static str),
}

use Pattern::{Begins, Ends, Whole};

/// The names, and who puts them there.
const RESIDENTS: [(Pattern, &str); 33] = [
    (Whole("lost+found"), "every fresh ext2, ext3 and ext4 file system has one for what fsck finds"),
    (Whole("aquota.user"), "disk quotas of a volume"),
    (Whole("aquota.group"), "the same"),
    (Whole(".snapshot"), "snapshots of NetApp and GPFS volumes"),
    (Whole(".snapshots"), "snapshots of Btrfs volumes (snapper) and of GPFS"),
    (Whole(".snap"), "snapshots of CephFS and UFS"),
    (Whole(".zfs"), "snapshots of ZFS, where they are shown"),
    (Whole(".lustre"), "the root of a Lustre file system"),
    (Whole(".glusterfs"), "the root of a GlusterFS brick"),
    (Begins(".nfs"), "a file that was removed on NFS while a process had it open"),
    (Begins(".fuse_hidden"), "the same of FUSE"),
    (Begins(".Trash-"), "the waste basket of a desktop, on each volume"),
    (Whole(".Trash"), "the same, shared"),
    (Whole(".Trashes"), "the same of macOS"),
    (Whole("$RECYCLE.BIN"), "the same of Windows"),
    (Whole("System Volume Information"), "every volume that Windows has seen"),
    (Whole(".DS_Store"), "every folder that the Finder of macOS has shown"),
    (Begins("._"), "attributes of a file of macOS where the file system has no place for them"),
    (Whole(".fseventsd"), "every volume that macOS has seen"),
    (Whole(".Spotlight-V100"), "the same: its search"),
    (Whole(".TemporaryItems"), "the same"),
    (Whole(".directory"), "how a folder is shown, by KDE"),
    (Whole("Thumbs.db"), "how a folder is shown, by Windows"),
    (Whole("desktop.ini"), "the same"),
    (Whole("@eaDir"), "attributes and thumbnails, on every share of a Synology NAS"),
    (Begins(".."), "..data and ..2026_11_30_...: how Kubernetes puts files into a mounted volume"),
    (Whole(".keep"), "it keeps an empty folder in a repository or an object store"),
    (Whole(".gitkeep"), "the same"),
    (Whole(".gitignore"), "the same, with what comes later left out"),
    (Whole("nohup.out"), "output of this program, collected by nohup"),
    (Ends(".out"), "the same by Slurm (slurm-42.out), LSF, HTCondor or a shell"),
    (Ends(".err"), "the same for standard error"),
    (Ends(".log"), "the same by a shell or HTCondor"),
];

/// Whether `name` says nothing about what a folder is used for.
pub(super) fn is_resident(name: &OsStr) -> bool {
    // A run's own log of steps has such an ending.
    if name == super::STEPS_LOG {
        return false;
    }
    let name = name.as_encoded_bytes();
    RESIDENTS.iter().any(|(pattern, _)| match pattern {
        Whole(whole) => name == whole.as_bytes(),
        Begins(begin) => name.starts_with(begin.as_bytes()),
        Ends(end) => name.ends_with(end.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{LEFTOVERS, RunDirectory};

    #[test]
    fn each_has_its_reason_and_none_is_a_name_of_a_run() {
        assert!(RESIDENTS.iter().all(|(_, reason)| !reason.is_empty()));
        let run = RunDirectory::at(Path::new("run"));
        let names = run.files().into_iter().chain(run.folders()).chain([run.report()]);
        let names: Vec<_> = names.map(|path| path.file_name().unwrap().to_owned()).collect();
        for name in names.iter().map(|name| &**name).chain(LEFTOVERS.map(OsStr::new)) {
            assert!(!is_resident(name), "{name:?}");
        }
    }
}
