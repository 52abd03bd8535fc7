-- Due date of the oldest invoice that is unpaid after a payment failed; the hard end of a
-- cancellation or fixed term beside it stays what it was.
ALTER TABLE subscriptions ADD COLUMN payment_due_at timestamptz;
