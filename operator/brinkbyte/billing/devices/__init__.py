"""Devices: the EdgeDevices that a customer's cluster declares."""
