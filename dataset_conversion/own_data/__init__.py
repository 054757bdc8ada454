"""Your own data by a source file: `example` shows one, `source_file` checks it, `own_source` finds and reads the cases."""
