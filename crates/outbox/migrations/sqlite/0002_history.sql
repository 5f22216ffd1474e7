-- For whoever reads in order what is kept.
CREATE INDEX {prefix}outbox_kept_id ON {prefix}outbox_kept (topic, id);
