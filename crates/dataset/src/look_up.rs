//! Where a mirror's name leads: the system's look-up on a thread of its own, because it may take its time. The client's
//! own way panics where the system gives no thread; here that is an error like any other.

use std::sync::mpsc::sync_channel;
use std::thread;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{NextTimeout, time::Duration};

/// Looks names up.
#[derive(Debug)]
pub(crate) struct LookUp;

impl Resolver for LookUp {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (sender, found) = sync_channel(1);
        let (uri, config) = (uri.clone(), config.clone());
        // Without a limit it needs no thread of its own.
        let unlimited = NextTimeout { after: Duration::NotHappening, ..timeout };
        let look_up = move || {
            // Nobody may wait any longer.
            let _ = sender.send(DefaultResolver::default().resolve(&uri, &config, unlimited));
        };
        thread::Builder::new().name("look-up".to_string()).spawn(look_up)?;
        found.recv_timeout(*timeout.after).map_err(|_| Error::Timeout(timeout.reason))?
    }
}
