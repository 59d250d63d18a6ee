//! Every operation, on every device of the build, against plain Burn under Burn's autodiff, and
//! against loops in double precision.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adapted_matmul;
mod attention;
mod cached_attention;
mod device;
mod elementwise;
mod embedding;
mod integers;
mod linear_cross_entropy;
mod packed_matmul;
mod references;
mod rows;
mod setup;
mod threads;
