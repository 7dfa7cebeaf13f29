//! The fixed reduction tree: node addressing, covers of intervals and the accumulator.
