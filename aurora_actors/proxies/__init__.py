"""The driver-independent half of what the application holds."""
