//! Quotas as they are written.
