"""Files in, files out: one module a format, each with `read_*` and `write_*` (files) or `parse_*` and `render_*` (text)."""
