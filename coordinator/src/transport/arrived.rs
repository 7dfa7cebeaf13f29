//! What arrived: the event in the control plane's words and, beside it, what the control plane does not look at.

use std::time::Duration;

use lockstep_control::Event;
use lockstep_proto::NodeValue;

/// One thing that arrived, for the commands that follow from it.
#[derive(Default)]
pub(crate) struct Arrived {
    /// What the control plane is told; `None` if it has nothing to decide.
    pub event: Option<Event>,
    /// The sum of a node that a worker sent; `None` also for a node without examples.
    pub value: Option<NodeValue>,
    /// How long its worker had computed.
    pub compute: Duration,
    /// What is known of the end of a worker besides its cause; often nothing.
    pub detail: String,
}

impl Arrived {
    /// The detail as it is appended to a sentence.
    pub(crate) fn detail_after_colon(&self) -> String {
        if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) }
    }
}

impl From<Event> for Arrived {
    fn from(event: Event) -> Self {
        Some(event).into()
    }
}

impl From<Option<Event>> for Arrived {
    fn from(event: Option<Event>) -> Self {
        Self { event, ..Self::default() }
    }
}
