//! Writes model weights as safetensors, atomically and verified.
