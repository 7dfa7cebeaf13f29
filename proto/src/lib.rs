//! x
#[allow(missing_docs)] mod wire { tonic::include_proto!("lockstep.v1"); }
