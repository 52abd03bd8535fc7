-- Rows set aside are found without reading a month's partition while nobody may record.
CREATE INDEX usage_events_set_aside ON usage_events (id) WHERE batch_no = 0;
