//! The coordinator: command line, run loop, gRPC service, trainer and local workers.
