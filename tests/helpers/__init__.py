"""Functions and classes that several test files share."""
