//! Seeds, forgeries and brute force.
