"""Scans that occur twice.

The stages, in order: `scan_hash` (what a scan looks like, kept by `scan_cache`) → `find` (`scan_match` confirms, `known_overlaps`
names) → `search` (a whole dataset) → `scan_groups` (recorded, for splits) → `deduplicate` (a new dataset, `merge_cases`).
"""
