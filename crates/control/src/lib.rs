//! The pure control plane: membership, assignment, steps and deadlines as a state machine.
