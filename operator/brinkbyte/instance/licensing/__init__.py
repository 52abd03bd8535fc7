"""What the instance may do: signed documents taken in, kept, refreshed, and asked."""
