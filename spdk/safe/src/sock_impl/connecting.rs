//! What a socket knows about the attempt to connect that it began with.

#[cfg_attr(not(spdk_net_impl_26_01), path = "connecting/none.rs")]
#[cfg_attr(spdk_net_impl_26_01, path = "connecting/polled.rs")]
mod imp;

pub(super) use imp::Attempt;
