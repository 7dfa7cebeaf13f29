//! Members that come, take work and break: they keep no run alive that does not get on.

use lockstep_proto::FromWorker;

use super::member::{Member, converse, hello};
use super::{Waiting, assert_parts};

#[test]
fn members_that_break_at_once_do_not_keep_a_run_alive() {
    let run = Waiting::with(1, &["--patience", "2s"]);
    let joined = converse(async {
        let mut joined = 0;
        // Until the coordinator is gone, or takes nobody any more.
        while let Some(mut member) = Member::try_join(&run.url, FromWorker::Hello(hello())).await {
            joined += 1;
            // It may be the end of the run that it hears of.
            let _ = member.work().await;
        }
        joined
    });
    assert!(joined > 1, "{joined} joined");
    let finished = run.coordinator.finish();
    assert_eq!(finished.code(), Some(75), "{finished}");
    assert_parts(&finished.stderr, &["nothing new of step 1 was computed for", "though workers came"]);
}
