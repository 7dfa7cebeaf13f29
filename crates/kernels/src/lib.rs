//! Forward and backward kernels of the convnet, and the scalar reference that defines their bits.
