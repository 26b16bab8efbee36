"""The directive templates (`*.adoc`) that come with tiltflow."""
