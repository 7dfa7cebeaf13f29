//! Whom the download trusts: Mozilla's authorities, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, as OpenSSL and
//! its users have it. A company whose proxy looks into TLS needs its own.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use crate::error::Error;

const FILE: &str = "SSL_CERT_FILE";
const FOLDERS: &str = "SSL_CERT_DIR";

/// More than any list of authorities has.
const MAX_BYTES: u64 = 16 << 20;

/// The authorities that the environment asks for.
///
/// # Errors
///
/// If what it names cannot be read, or holds no certificate.
pub(crate) fn from_environment() -> Result<RootCerts, Error> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let named = named(set(FILE), set(FOLDERS))?;
    Ok(named.map_or(RootCerts::WebPki, |certificates| RootCerts::new_with_certs(&certificates)))
}

/// All that the two variables name together; none if they name nothing.
fn named(
    file: Option<OsString>,
    folders: Option<OsString>,
) -> Result<Option<Vec<Certificate<'static>>>, Error> {
    if file.is_none() && folders.is_none() {
        return Ok(None);
    }
    let mut certificates = Vec::new();
    if let Some(path) = file.as_deref().map(Path::new) {
        let found = read(path).map_err(|reason| refused(FILE, path.as_os_str(), reason))?;
        if found.is_empty() {
            return Err(refused(FILE, path.as_os_str(), "it holds no certificate in PEM form".to_owned()));
        }
        certificates.extend(found);
    }
    if let Some(folders) = folders {
        let found: Vec<_> = env::split_paths(&folders).flat_map(|folder| in_folder(&folder)).collect();
        if found.is_empty() && certificates.is_empty() {
            return Err(refused(FOLDERS, &folders, "there is no certificate in PEM form".to_owned()));
        }
        certificates.extend(found);
    }
    Ok(Some(certificates))
}

fn refused(variable: &'static str, value: &OsStr, reason: String) -> Error {
    Error::Certificates { variable, value: PathBuf::from(value), reason }
}

/// Other files may lie there, and links to the same; one that cannot be read is left to those that can.
fn in_folder(folder: &Path) -> Vec<Certificate<'static>> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut certificates: Vec<Certificate<'static>> =
        paths.filter(|path| path.is_file()).flat_map(|path| read(&path).unwrap_or_default()).collect();
    certificates.sort_by(|left, right| left.der().cmp(right.der()));
    certificates.dedup_by(|left, right| left.der() == right.der());
    certificates
}

fn read(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let size = fs::metadata(path).map(|found| found.len());
    let bytes = match size {
        Ok(bytes) if bytes > MAX_BYTES => return Err(format!("it has more than {MAX_BYTES} bytes")),
        _ => fs::read(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => "it is not there".to_owned(),
            _ => error.to_string(),
        })?,
    };
    let items = parse_pem(&bytes).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(error.to_string())),
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(content: &str) -> String {
        format!("# A comment.\n-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n")
    }

    fn counted(file: Option<&Path>, folders: Option<OsString>) -> Result<Option<usize>, String> {
        let named = named(file.map(OsString::from), folders);
        named.map(|found| found.map(|found| found.len())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_and_folders_are_trusted_together() {
        let scratch = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| scratch.path().join(name));
        for folder in [&first, &second] {
            fs::create_dir(folder).unwrap();
        }
        let bundle = scratch.path().join("bundle.pem");
        fs::write(&bundle, pem("AAAA") + &pem("BBBB")).unwrap();
        fs::write(first.join("company.pem"), pem("CCCC")).unwrap();
        std::os::unix::fs::symlink(first.join("company.pem"), first.join("0a1b2c3d.0")).unwrap();
        fs::write(first.join("README"), "no certificate").unwrap();
        fs::write(second.join("other.crt"), pem("DDDD")).unwrap();
        let folders = env::join_paths([&first, &second]).unwrap();
        assert_eq!(counted(None, None), Ok(None));
        assert_eq!(counted(Some(&bundle), None), Ok(Some(2)));
        assert_eq!(counted(None, Some(folders.clone())), Ok(Some(2)));
        assert_eq!(counted(Some(&bundle), Some(folders)), Ok(Some(4)));
        assert_eq!(counted(Some(&bundle), Some("/absent".into())), Ok(Some(2)));
    }

    #[test]
    fn what_cannot_be_trusted_names_the_variable() {
        let scratch = tempfile::tempdir().unwrap();
        let absent = scratch.path().join("absent.pem");
        let message = counted(Some(&absent), None).unwrap_err();
        let shown = absent.display();
        assert!(
            message.starts_with(&format!("SSL_CERT_FILE names {shown} for the download: it is not")),
            "{message}"
        );
        let empty = scratch.path().join("empty.pem");
        fs::write(&empty, "nothing").unwrap();
        assert!(counted(Some(&empty), None).unwrap_err().contains("no certificate"));
        assert!(counted(None, Some("/absent".into())).unwrap_err().starts_with("SSL_CERT_DIR names /absent"));
    }
}
