//! Who said what, in which order.
