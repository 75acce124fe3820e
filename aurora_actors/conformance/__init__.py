"""The conformance suites of drivers and dialects. pytest collects what is derived from them; nothing here imports it."""
