-- A cancellation always has an end; one that was stored without ended with its day.
-- (Forced row security hides all rows from the owner too.)
ALTER TABLE subscriptions NO FORCE ROW LEVEL SECURITY;
UPDATE subscriptions
    SET hard_end = date_trunc('day', updated_at, 'UTC') + interval '1 day'
    WHERE status = 'canceled' AND hard_end IS NULL;
ALTER TABLE subscriptions FORCE ROW LEVEL SECURITY;
ALTER TABLE subscriptions
    ADD CONSTRAINT subscriptions_cancellation CHECK (status <> 'canceled' OR hard_end IS NOT NULL);

-- The tier that a registered device counts in: a change that is refused leaves it as it is.
ALTER TABLE devices ADD COLUMN registered_tier text
    CHECK (registered_tier IN ('basic', 'managed'));
ALTER TABLE devices NO FORCE ROW LEVEL SECURITY;
UPDATE devices SET registered_tier = management_tier WHERE registered_at IS NOT NULL;
ALTER TABLE devices FORCE ROW LEVEL SECURITY;

-- Hash of what might be held when the seats were last decided; another one: they are decided again.
ALTER TABLE instances ADD COLUMN settled_for bytea;
