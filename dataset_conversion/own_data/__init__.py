"""Your own data by a source file: `example` shows one, `source_file` is what it can say, `read_source_file` checks it.

`own_cases` finds its cases, `own_source` reads them.
"""
