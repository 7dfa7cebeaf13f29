//! The convnet: parameters, initial values, shard gradients, SGD and the weights digest.
