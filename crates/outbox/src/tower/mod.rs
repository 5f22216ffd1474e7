//! Receives webhooks.
